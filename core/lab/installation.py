"""Who owns the installation: the organisation that was made first, with the server's first administrator.

Whoever registers is an administrator of an organisation of their own, which must not let them bring code to the server or
updates to the machine.
"""

from __future__ import annotations

from sqlmodel import col, select

from core.identity.tables import OrgRow
from core.kernel.call import Call
from core.kernel.errors import PermissionDenied
from core.storage.database import Database


class Installation:
    """Knows the owner."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._owner: str | None = None

    async def require(self, call: Call) -> None:
        """Check that the caller belongs to the owner.

        Raises:
            PermissionDenied: The caller belongs to another organisation.
        """
        if self._owner is None:
            query = select(OrgRow.id).order_by(col(OrgRow.created_us), col(OrgRow.id)).limit(1)
            async with self._database.read() as session:
                self._owner = (await session.exec(query)).first()
        if call.caller.org_id != self._owner:
            raise PermissionDenied("Only the organisation that owns the installation may do this.")
