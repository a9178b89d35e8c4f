"""Which boards are announced to homes, what is said of them, and what homes set. Knows no broker: a door carries it there."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.homes.announcements import Announced, Change, Json, PinSet, Topics
from core.kernel.call import Call
from core.kernel.errors import NotFound, PermissionDenied, Unavailable
from core.live.events import EventBus, Policy, Topic
from core.maker.boards import BoardService, KnownBoard
from core.maker.events import board_topic, project_topic
from core.maker.home_assistant import parse_body
from core.maker.home_entities import HomeDevice, describe
from core.maker.home_tables import HomeBoardRow
from core.maker.home_widgets import HomeWidgets
from core.maker.pins import PINS, PinService
from core.maker.tables import AttachmentRow, BoardRow
from core.signals.model import LatestChanged
from core.storage.database import Database
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.maker.v1.home_discovery_pb import GetHomeDiscoveryRequest, HomeDiscovery, SetHomeDiscoveryRequest

CHANGED: Topic = ("", "home-discovery")
"""Where it is told that a board is announced, or no longer."""
QUEUED_EVENTS = 4096


class HomeBoards:
    """The boards that are announced. A door that carries them says so by `connected`."""

    def __init__(
        self,
        database: Database,
        boards: BoardService,
        pins: PinService,
        widgets: HomeWidgets,
        bus: EventBus,
        topics: Topics,
    ) -> None:
        self._database = database
        self._boards = boards
        self._pins = pins
        self._widgets = widgets
        self._bus = bus
        self.topics = topics
        self.connected = False

    async def is_announced(self, board_id: str) -> bool:
        """Tell whether a board is announced."""
        async with self._database.read() as session:
            return await session.get(HomeBoardRow, board_id) is not None

    async def announce(self, board_id: str, *, wanted: bool) -> None:
        """Announce a board, or take it back; either may be so already."""
        async with self._database.unit_of_work() as session:
            row = await session.get(HomeBoardRow, board_id)
            if wanted and row is None:
                session.add(HomeBoardRow(board_id=board_id))
            elif not wanted and row is not None:
                await session.delete(row)
        self.refresh()

    def refresh(self) -> None:
        """Let watchers see all announced boards anew."""
        self._bus.publish(CHANGED, "", remember=False)

    async def watch(self) -> AsyncGenerator[Change]:
        """Yield all announced boards, then every change; all of them again whenever more than a value has changed."""
        while True:
            async with self._database.read() as session:
                topics = await self._topics(session)
            # What is read after the reader has begun holds everything that happened before: nothing falls between the two.
            async with self._bus.subscribe(topics, policy=Policy.LAGGED, size=QUEUED_EVENTS) as events:
                async with self._database.read() as session:
                    yield await self._all(session)
                async for _, event in events:
                    if not isinstance(event, LatestChanged):
                        break
                    change = self._pin_set(event)
                    if change is not None:
                        yield change
                else:
                    return

    async def set_pin(self, board_id: str, pin: int, payload: bytes) -> None:
        """Write what a home has set.

        Raises:
            NotFound: The board is not announced, or has no such pin.
            InvalidArgument: The value is none that a pin can have.
            ResourceExhausted: The board is written to too often.
        """
        async with self._database.read() as session:
            row = await session.get(BoardRow, board_id)
            announced = row is not None and await session.get(HomeBoardRow, board_id) is not None
        if row is None or not announced or not 0 <= pin < PINS:
            raise NotFound("board not found", board=board_id)
        board = KnownBoard(row.id, row.org_id, row.owner_id, row.device_id)
        value = parse_body(payload)
        self._pins.limit(board)
        await self._pins.write(board, [(pin, value)], by="ha")

    async def _topics(self, session: AsyncSession) -> list[Topic]:
        boards = await self._rows(session)
        attached = select(AttachmentRow.project_id).where(col(AttachmentRow.board_id).in_([board.id for board in boards]))
        projects = set((await session.exec(attached)).all())
        return [
            CHANGED,
            *(board_topic(row.org_id, row.id) for row in boards),
            *(project_topic(project) for project in projects),
        ]

    async def _rows(self, session: AsyncSession) -> list[BoardRow]:
        query = select(BoardRow).join(HomeBoardRow, col(HomeBoardRow.board_id) == col(BoardRow.id))
        return list((await session.exec(query.order_by(col(BoardRow.id)))).all())

    async def _all(self, session: AsyncSession) -> list[Announced]:
        rows = await self._rows(session)
        bound = await self._widgets.bound(session, [row.id for row in rows])
        return [self._announced(row, bound[row.id]) for row in rows]

    def _announced(self, row: BoardRow, bound: dict[int, Json]) -> Announced:
        written = self._pins.written(KnownBoard(row.id, row.org_id, row.owner_id, row.device_id))
        device = HomeDevice(row.id, row.name, row.board_type, row.firmware_version)
        labels = {pin.pin_index: pin.label for pin in written}
        return Announced(
            row.id,
            describe(device, labels, bound, self.topics),
            self._boards.status(row.device_id) == "online",
            {pin.pin_index: pin.text for pin in written},
        )

    def _pin_set(self, event: LatestChanged) -> PinSet | None:
        board = KnownBoard(event.device.slug, event.org_id, "", event.device.id)
        change = self._pins.change(board, event)
        return None if change is None or change.pin is None else PinSet(board.id, change.pin.pin_index, change.pin.text)


class HomeDiscoveryService:
    """Lets owners announce their boards."""

    def __init__(self, boards: BoardService, home: HomeBoards, *, broker_is_set: bool) -> None:
        self._boards = boards
        self._home = home
        self._broker_is_set = broker_is_set

    async def get_home_discovery(self, request: GetHomeDiscoveryRequest, call: Call) -> HomeDiscovery:
        """Tell whether a board is announced."""
        await self._boards.require(request.board_id, call.caller)
        return self._message(request.board_id, enabled=await self._home.is_announced(request.board_id))

    async def set_home_discovery(self, request: SetHomeDiscoveryRequest, call: Call) -> HomeDiscovery:
        """Announce a board, or take it back."""
        board = await self._boards.require(request.board_id, call.caller)
        if board.owner_id != call.caller.user_id:
            raise PermissionDenied("only the owner may announce a board")
        if request.enabled and not self._broker_is_set:
            raise Unavailable(
                "no MQTT broker is configured: set mqtt.url to the address of one",
                reason=ErrorReason.NOT_CONFIGURED,
                setting="mqtt.url",
            )
        await self._home.announce(board.id, wanted=request.enabled)
        return self._message(board.id, enabled=request.enabled)

    def _message(self, board_id: str, *, enabled: bool) -> HomeDiscovery:
        broker = "off" if not self._broker_is_set else "connected" if self._home.connected else "disconnected"
        return HomeDiscovery(board_id=board_id, enabled=enabled, broker=broker)
