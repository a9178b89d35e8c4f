"""Notifies owners of boards that went away and stayed away.

An outage begins when the connection of a board ends. It is told once, when the board has been away for as long as it takes to
count as offline; a board that was heard from meanwhile, over any door, had none. What only posts has no connection that could
end, so nobody is told of its silence.
"""

from __future__ import annotations

import asyncio

import structlog

from core.kernel.clock import MICROSECONDS, Clock, to_datetime
from core.kernel.errors import DomainError
from core.kernel.settings import Settings
from core.maker.boards import BoardService, KnownBoard
from core.maker.notices import Notices
from core.maker.tables import BoardRow
from core.outbox.delivery import Delivery, Handler
from core.outbox.outbox import Outbox
from core.storage.database import Database

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
        clock: Clock,
        *,
        settings: Settings,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._notices = notices
        self._boards = boards
        self._clock = clock
        self._after_us = int(settings.live.offline_after_seconds * MICROSECONDS)
        self._started_us = clock.now_us()
        self._notes: set[asyncio.Task[None]] = set()
        self.handler = Handler(self._look)
        boards.on_leave(self._left)

    async def start(self) -> None:
        """Begin to wait for the boards that were connected before the server went down."""
        self._started_us = self._clock.now_us()

    async def stop(self) -> None:
        """Finish what is being written."""
        await asyncio.gather(*self._notes)

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
        since = to_datetime(left_us).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        async with self._database.unit_of_work() as session:
            board = await session.get(BoardRow, board_id)
            if board is None or self._boards.heard_since(board.device_id, left_us):
                return
            wait_us = self._started_us + self._after_us - self._clock.now_us()
            if wait_us > 0:
                # The server itself was away: its boards get as long to come back as they always have.
                await self._outbox.enqueue(session, KIND, outage, delivery.org_id, subject=board.id, delay_us=wait_us)
                return
            await self._notices.post(
                session,
                board.owner_id,
                NOTICE,
                f"{board.name} is offline",
                link=f"/boards/{board.id}",
                data={"boardId": board.id, "since": since},
                once=f"{board.id} {left_us}",
            )
