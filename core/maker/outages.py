"""Notifies owners of boards that went away and stayed away.

An outage is told once, when a board has been away for as long as it takes to count as offline. It begins in one of two ways:

- The connection of a board ends. A look at the board is put into the outbox, and whoever was heard from meanwhile, over any
  door, had no outage.
- A board without a connection, which only posts, falls silent; or so it looks after a server that was killed. Boards are gone
  over again and again for those that were last heard from so long ago, unless their leaving was noted the other way.
"""

from __future__ import annotations

import asyncio

import structlog
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import MICROSECONDS, Clock, to_datetime
from core.kernel.errors import DomainError
from core.kernel.settings import Settings
from core.maker.boards import BoardService, KnownBoard
from core.maker.notices import Notices
from core.maker.tables import BoardRow
from core.outbox.delivery import Delivery, Handler
from core.outbox.outbox import Outbox
from core.signals.ingest import BOARD
from core.signals.service import Signals
from core.storage.database import Database

SILENCE_US = 29 * 24 * 3600 * MICROSECONDS
"""How old a silence may be to be told of: less than the outbox remembers, so that a restart tells nobody again."""
LOOKS = 4
"""How often boards are gone over in the time after which they count as offline."""
KIND = "maker.outage"
"""Kind of the side effects that look whether a board has come back."""
NOTICE = "board.offline"

log = structlog.get_logger("busbar.maker")


class Outages:
    """Puts a look at each board that leaves into the outbox, and notifies its owner if it is still away then."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        notices: Notices,
        boards: BoardService,
        signals: Signals,
        clock: Clock,
        *,
        settings: Settings,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._notices = notices
        self._boards = boards
        self._signals = signals
        self._clock = clock
        self._after_us = int(settings.live.offline_after_seconds * MICROSECONDS)
        self._started_us = clock.now_us()
        self._notes: set[asyncio.Task[None]] = set()
        self._seen_to: dict[int, int] = {}
        self._watch: asyncio.Task[None] | None = None
        self.handler = Handler(self._look)
        boards.on_leave(self._left)

    async def start(self) -> None:
        """Begin to watch, and to wait for the boards that were connected before the server went down."""
        self._started_us = self._clock.now_us()
        if self._watch is None:
            self._watch = asyncio.create_task(self._keep_watch(), name="outages")

    async def stop(self) -> None:
        """Stop watching, and finish what is being written."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        await asyncio.gather(*self._notes)

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.sleep(self._after_us / MICROSECONDS / LOOKS)
            try:
                await self.look_around()
            except DomainError as error:
                log.warning("boards not looked at", error=error.message)
            except Exception:
                # The watch must outlive whatever goes wrong in one round.
                log.exception("boards not looked at")

    async def look_around(self) -> None:
        """Notify the owners of boards that have no connection and have fallen silent."""
        for device_id, seen_us in self._silent():
            await self._tell_silent(device_id, seen_us)
            self._seen_to[device_id] = seen_us

    def _silent(self) -> list[tuple[int, int]]:
        """Return the boards that are silent and not seen to yet, and when each was last heard from."""
        now = self._clock.now_us()
        latest_us = now - self._after_us
        if self._started_us > latest_us:
            # The server itself was away: its boards get as long to come back as they always have.
            return []
        heard = ((device.id, device.last_seen_us) for device in self._signals.devices_of_kind(BOARD))
        return [
            (device_id, seen_us)
            for device_id, seen_us in heard
            if seen_us is not None
            and now - SILENCE_US < seen_us <= latest_us
            and self._seen_to.get(device_id) != seen_us
            and not self._signals.online(device_id)
            and not self._boards.left_since(device_id, seen_us)
        ]

    async def _tell_silent(self, device_id: int, seen_us: int) -> None:
        async with self._database.read() as session:
            board = (await session.exec(select(BoardRow).where(col(BoardRow.device_id) == device_id))).first()
            if board is None:
                return
            noted = await self._outbox.list(session, board.org_id, kind=KIND, subject=board.id, limit=1)
        if noted and noted[0].created_us >= seen_us:
            # It left with its connection: the look that was noted then tells its owner, or has done so.
            return
        async with self._database.unit_of_work() as session:
            await self._tell(session, board, seen_us)

    def _left(self, board: KnownBoard, at_us: int) -> None:
        note = asyncio.create_task(self._note(board, at_us))
        self._notes.add(note)
        note.add_done_callback(self._notes.discard)

    async def _note(self, board: KnownBoard, at_us: int) -> None:
        payload = {"board": board.id, "left_us": at_us}
        try:
            async with self._database.unit_of_work() as session:
                await self._outbox.enqueue(session, KIND, payload, board.org_id, subject=board.id, delay_us=self._after_us)
        except DomainError as error:
            # The connection is gone, so there is nobody to tell.
            log.warning("outage not noted", board=board.id, error=error.message)

    async def _look(self, delivery: Delivery) -> None:
        """Notify the owner of a board that has not come back."""
        outage = delivery.json()
        board_id, left_us = str(outage["board"]), int(outage["left_us"])
        async with self._database.unit_of_work() as session:
            board = await session.get(BoardRow, board_id)
            if board is None or self._boards.heard_since(board.device_id, left_us):
                return
            wait_us = self._started_us + self._after_us - self._clock.now_us()
            if wait_us > 0:
                # The server itself was away: its boards get as long to come back as they always have.
                await self._outbox.enqueue(session, KIND, outage, delivery.org_id, subject=board.id, delay_us=wait_us)
                return
            await self._tell(session, board, left_us)

    async def _tell(self, session: AsyncSession, board: BoardRow, since_us: int) -> None:
        since = to_datetime(since_us).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        await self._notices.post(
            session,
            board.owner_id,
            NOTICE,
            f"{board.name} is offline",
            link=f"/boards/{board.id}",
            data={"boardId": board.id, "since": since},
            once=f"{board.id} {since_us}",
        )
