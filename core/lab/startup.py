"""Tells the log book that the server has started."""

from __future__ import annotations

import structlog

from core.identity.external import ExternalUsers
from core.kernel.errors import Unavailable
from core.lab.log_book import LogBook
from core.storage.database import Database

log = structlog.get_logger("busbar.lab")


class StartUpEntry:
    """Writes the entry of a start, in the name of the first administrator."""

    def __init__(self, database: Database, external: ExternalUsers, book: LogBook, version: str) -> None:
        self._database = database
        self._external = external
        self._book = book
        self._version = version

    async def opened(self) -> None:
        """Write the entry; without an administrator there is nobody to read it."""
        try:
            async with self._database.unit_of_work() as session:
                admin = await self._external.first_admin(session)
                if admin is not None:
                    self._book.write(session, admin.org_id, admin.user.id, f"WebMACS Backend v{self._version} started.")
        except Unavailable:
            # Storage is away; the server serves what it can without it, and so should this not keep it from starting.
            log.warning("the start was not written to the log book")
