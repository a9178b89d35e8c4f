"""How an update becomes the one that is applied: pending → downloading → verifying → applying → completed, or failed.

Each step is committed before the next begins, and taken only from the state that was read, so of several who apply one update
at once one does.
"""

from __future__ import annotations

from sqlalchemy import update
from sqlmodel import col, select

from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.errors import FailedPrecondition, TooLarge
from core.kernel.http import AddressPolicy, OutgoingClient, OutgoingError
from core.kernel.settings import Outgoing
from core.lab.bundles import Bundles
from core.lab.plugin_tables import UpdateRow
from core.lab.uploads import bad_request
from core.storage.blobs import Arrived
from core.storage.database import Database

STEPS: dict[str, tuple[str, ...]] = {
    "pending": ("downloading", "completed", "failed"),
    "downloading": ("verifying", "failed"),
    "verifying": ("applying", "failed"),
    "applying": ("completed", "failed"),
    "completed": ("rolled_back",),
    "failed": ("pending",),
    "rolled_back": ("pending",),
}
"""From which state an update may go to which."""
UNDER_WAY = ("downloading", "verifying", "applying")
SECONDS = 30.0
REDIRECTS = 5
_FOUND = 200


class _Failed(Exception):
    """An update cannot be applied; the text is for its row and its caller."""


class Updater:
    """Takes updates through their states."""

    def __init__(self, database: Database, bundles: Bundles, outgoing: Outgoing, clock: Clock) -> None:
        self._database = database
        self._bundles = bundles
        self._client = OutgoingClient(AddressPolicy.of(outgoing))
        self._clock = clock

    async def start(self) -> None:
        """Give up what a stop interrupted."""
        broken = update(UpdateRow).where(col(UpdateRow.status).in_(UNDER_WAY))
        async with self._database.unit_of_work() as session:
            await session.exec(broken.values(status="failed", error_message="the server stopped meanwhile"))

    async def stop(self) -> None:
        """Close connections."""
        await self._client.close()

    async def apply(self, row: UpdateRow, url: str | None, sha256: str | None, call: Call) -> None:
        """Apply an update; a failed one begins anew.

        Raises:
            FailedPrecondition: Its state does not allow it.
            InvalidArgument: The bundle cannot be had or is not the right one; the update has failed.
        """
        state, now = row.status, self._clock.now_us()
        if state == "failed":
            await self.move(row, state, "pending", error_message=None, completed_us=None)
            state = "pending"
        if url is None:
            await self.move(row, state, "completed", started_us=now, completed_us=now)
            return
        await self.move(row, state, "downloading", started_us=now)
        try:
            await self._install(row, url, sha256)
        except _Failed as error:
            await self._fail(row, str(error))
            raise bad_request(call, str(error)) from error
        except BaseException:
            await self._fail(row, "the update was interrupted")
            raise

    async def move(self, row: UpdateRow, state: str, then: str, **values: object) -> None:
        """Take an update from a state to another.

        Raises:
            FailedPrecondition: There is no such step, or it is in another state.
        """
        if row.status == state and then in STEPS[state] and await self._set(row, state, status=then, **values):
            row.status = then
            return
        async with self._database.read() as session:
            query = select(UpdateRow.status).where(col(UpdateRow.public_id) == row.public_id)
            present = (await session.exec(query)).first() or row.status
        raise FailedPrecondition(f"Cannot transition from '{present}' to '{then}'", status=present)

    async def remove(self, version: str) -> None:
        """Delete the bundle of a version."""
        await self._bundles.remove(_file(version))

    async def _install(self, row: UpdateRow, url: str, sha256: str | None) -> None:
        try:
            async with self._client.download(url, seconds=SECONDS, redirects=REDIRECTS) as incoming:
                if incoming.status != _FOUND:
                    raise _Failed(f"download_failed: status {incoming.status}")
                async with self._bundles.receive(incoming.body) as arrived:
                    await self.move(row, "downloading", "verifying")
                    if sha256 is not None and arrived.sha256 != sha256.lower():
                        raise _Failed("SHA-256 hash verification failed")
                    await self._complete(row, arrived, sha256)
        except TooLarge as error:
            raise _Failed("download_failed: the bundle is too large") from error
        except OutgoingError as error:
            raise _Failed(f"download_failed: {error}"[:500]) from error

    async def _complete(self, row: UpdateRow, arrived: Arrived, sha256: str | None) -> None:
        await self.move(row, "verifying", "applying")
        # One from an attempt before, which this update alone may name.
        await self._bundles.remove(_file(row.version))
        await self._bundles.keep(arrived, _file(row.version))
        hashed = None if sha256 is None else arrived.sha256
        done = {"file_size": arrived.size, "file_hash": hashed, "has_file": True, "completed_us": self._clock.now_us()}
        try:
            await self.move(row, "applying", "completed", **done)
        except BaseException:
            # Such as when it was deleted meanwhile.
            await self._bundles.remove(_file(row.version))
            raise

    async def _fail(self, row: UpdateRow, message: str) -> None:
        await self._set(row, row.status, status="failed", error_message=message)

    async def _set(self, row: UpdateRow, state: str, **values: object) -> bool:
        """Change an update that is in a state; returns whether it was."""
        same = (col(UpdateRow.public_id) == row.public_id, col(UpdateRow.status) == state)
        async with self._database.unit_of_work() as session:
            return (await session.exec(update(UpdateRow).where(*same).values(**values))).rowcount == 1


def _file(version: str) -> str:
    return f"firmware-{version}.tar.gz"
