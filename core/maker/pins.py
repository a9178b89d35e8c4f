"""Virtual pins. Pin n of a board is the channel `V<n>` of its device, so everything that reads channels sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from protobuf.wkt import Value

from core.kernel.call import Call, Principal
from core.kernel.clock import Clock, to_timestamp
from core.kernel.errors import NotFound, PermissionDenied, ResourceExhausted
from core.kernel.limits import Limiter
from core.live.events import EventBus, Lagged, Policy
from core.live.shared import share
from core.maker.access import Role
from core.maker.boards import BoardService, KnownBoard
from core.maker.events import BoardDeleted, BoardSharingChanged, BoardStatusChanged, board_topic
from core.maker.ota_jobs import OtaJobs
from core.maker.pin_connection import PinConnection, origin_of
from core.maker.pin_values import Scalar, canonical_text, plain, scalar, type_of
from core.signals.model import Latest, LatestChanged
from core.signals.service import Signals
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.maker.v1.pins_pb import (
    ConnectPinsRequest,
    ConnectPinsResponse,
    ListPinsRequest,
    ListPinsResponse,
    Pin,
    PinChange,
    PinSnapshot,
    ReadPinRequest,
    WatchPinsRequest,
    WritePinRequest,
)

PINS = 256
"""Virtual pins of a board."""
WRITES_PER_SECOND = 50
"""Writes to one board, through all doors together."""
MADE_PINS = 65_536
"""Pins kept as messages, ready for the next reader."""
MADE_CHANGES = 256
"""Changes kept as messages, until every watcher has them."""
_INDEX = {f"V{index}": index for index in range(PINS)}


class PinService:
    """Reads, writes and watches the pins of the caller's boards."""

    def __init__(
        self, boards: BoardService, signals: Signals, bus: EventBus, limiter: Limiter, clock: Clock, ota: OtaJobs
    ) -> None:
        self.boards = boards
        self.ota = ota
        self.signals = signals
        self.bus = bus
        self.clock = clock
        self._limiter = limiter
        self._connected: dict[int, PinConnection] = {}
        self._made: dict[tuple[int, int], tuple[Latest | None, str | None, Pin]] = {}
        self._changes: dict[tuple[int, float], tuple[LatestChanged, PinChange]] = {}

    async def read_pin(self, request: ReadPinRequest, call: Call) -> Pin:
        """Return the latest value from memory; never touches the database."""
        board = await self.boards.require(request.board_id, call.caller)
        return self.read(board, request.pin_index)

    async def write_pin(self, request: WritePinRequest, call: Call) -> Pin:
        """Store the value, then tell watchers."""
        board = await self.boards.require(request.board_id, call.caller, Role.EDITOR)
        if board.org_id != call.caller.org_id:
            # The rpc's own limit counts each organisation apart, lest strangers use up a board's; members share its own.
            self.limit(board)
        label = request.label if request.has_field("label") else None
        pins = await self.write(board, [(request.pin_index, scalar(request.value))], by=origin_of(call), label=label)
        return pins[0]

    async def list_pins(self, request: ListPinsRequest, call: Call) -> ListPinsResponse:
        """List the pins that were ever written."""
        board = await self.boards.require(request.board_id, call.caller)
        return ListPinsResponse(pins=self.written(board))

    async def watch_pins(self, request: WatchPinsRequest, call: Call) -> AsyncIterator[Pin]:
        """Yield the state after `since`, then every write."""
        board = await self.boards.require(request.board_id, call.caller)
        async with self.bus.subscribe(board_topic(board.org_id, board.id), policy=Policy.LAGGED, size=256) as events:
            snapshot = self.snapshot(board, request.since)
            for pin in sorted(snapshot.pins, key=lambda pin: pin.seq):
                yield pin
            async for _, event in events:
                if isinstance(event, Lagged):
                    raise ResourceExhausted("the reader is too slow", reason=ErrorReason.LAGGED)
                if isinstance(event, BoardDeleted):
                    raise NotFound(f"board {board.id} was deleted", board=board.id)
                if isinstance(event, BoardSharingChanged):
                    await self.recheck(board, call.caller)
                elif isinstance(event, LatestChanged) and event.seq > snapshot.seq:
                    change = self.change(board, event)
                    if change is not None and change.pin is not None:
                        yield change.pin

    async def connect_pins(self, requests: AsyncIterator[ConnectPinsRequest], call: Call) -> AsyncIterator[ConnectPinsResponse]:
        """Talk with one board both ways."""
        connection = await PinConnection.open(self, requests, call)
        async for frame in connection.run():
            yield ConnectPinsResponse(frame=frame)

    async def recheck(self, board: KnownBoard, caller: Principal) -> None:
        """Let a live connection go on only if its caller may still see the board.

        Raises:
            PermissionDenied: They may not.
        """
        try:
            await self.boards.require(board.id, caller)
        except NotFound:
            raise PermissionDenied(f"board {board.id} is no longer shared with you", board=board.id) from None

    def read(self, board: KnownBoard, index: int) -> Pin:
        """Return one pin of a board."""
        return self._pin(board, index, self.signals.latest(board.device_id, f"V{index}"))

    def written(self, board: KnownBoard) -> list[Pin]:
        """Return the pins of a board that were ever written, by index."""
        found = [
            self._pin(board, _INDEX[name], latest)
            for name, latest in self.signals.latest_all(board.device_id).items()
            if name in _INDEX
        ]
        return sorted(found, key=lambda pin: pin.pin_index)

    def latest(self, board: KnownBoard) -> dict[int, Latest]:
        """Return what was last written to each pin, by index."""
        written = self.signals.latest_all(board.device_id)
        return {_INDEX[name]: latest for name, latest in written.items() if name in _INDEX}

    async def write(
        self,
        board: KnownBoard,
        values: Sequence[tuple[int, Scalar]],
        *,
        by: str,
        label: str | None = None,
        client_id: str | None = None,
    ) -> list[Pin]:
        """Write pins of one board, all or none, and return them after the commit."""
        device = self.signals.get_device(board.device_id)
        if device is None:
            raise NotFound("board not found", board=board.id)
        writes = [(f"V{index}", float(v) if isinstance(v, int) and not isinstance(v, bool) else v) for index, v in values]
        written = await self.signals.write_latest(device, writes, by=by, label=label, client_id=client_id)
        return [self._pin(board, index, latest) for (index, _), latest in zip(values, written, strict=True)]

    def _pin(self, board: KnownBoard, index: int, latest: Latest | None) -> Pin:
        """Return a pin as clients see it. The message is made once for a value, and belongs to all who read it."""
        channel = self.signals.find_channel(board.device_id, f"V{index}")
        label = None if channel is None else channel.label
        key = (board.device_id, index)
        made = self._made.get(key)
        if made is not None and made[0] is latest and made[1] == label:
            return made[2]
        if len(self._made) >= MADE_PINS:
            self._made.clear()
        pin = pin_message(board.id, index, latest, label)
        self._made[key] = (latest, label, pin)
        return pin

    def limit(self, board: KnownBoard) -> None:
        """Count a write that came by another way than WritePin, which its own option limits."""
        self._limiter.check(("busbar.maker.v1.PinService/WritePin", board.id, board.org_id), WRITES_PER_SECOND, 1)

    def snapshot(self, board: KnownBoard, since: float) -> PinSnapshot:
        """Return the state of a board; only pins with a greater sequence than `since`."""
        device = self.signals.get_device(board.device_id)
        return PinSnapshot(
            board_id=board.id,
            status=self.boards.status(board.device_id),
            seq=0 if device is None else device.seq,
            pins=[pin for pin in self.written(board) if pin.seq > since],
        )

    def change(self, board: KnownBoard, event: LatestChanged) -> PinChange | None:
        """Return a live event as the frame of a pin, one message for all watchers; None for a channel that is no pin."""
        index = _INDEX.get(event.channel.name)
        if index is None:
            return None
        key = (board.device_id, event.seq)
        made = self._changes.get(key)
        if made is not None and made[0] is event:
            return made[1]
        if len(self._changes) >= MADE_CHANGES:
            self._changes.clear()
        pin = pin_message(board.id, index, event.latest, event.channel.label)
        change = share(PinChange(board_id=board.id, seq=event.seq, pin=pin, origin=event.by, client_id=event.client_id))
        self._changes[key] = (event, change)
        return change

    def attach(self, device_id: int, connection: PinConnection) -> None:
        """Make a connection the one of its board; an earlier one ends."""
        earlier = self._connected.get(device_id)
        self._connected[device_id] = connection
        if earlier is None:
            self.signals.device_connected(device_id)
            self._tell_status(connection.board, online=True)
        else:
            earlier.replaced()

    def detach(self, device_id: int, connection: PinConnection) -> None:
        """Take a connection away; the board is offline only if no newer one took its place."""
        if self._connected.get(device_id) is connection:
            del self._connected[device_id]
            self.signals.device_disconnected(device_id)
            self.boards.left(connection.board)
            self._tell_status(connection.board, online=False)

    def _tell_status(self, board: KnownBoard, *, online: bool) -> None:
        event = BoardStatusChanged(online=online, at_us=self.clock.now_us())
        self.bus.publish(board_topic(board.org_id, board.id), event)


def pin_message(board_id: str, index: int, latest: Latest | None, label: str | None) -> Pin:
    """Return a pin as clients see it."""
    if latest is None:
        empty = Value.from_python(None)
        return Pin(board_id=board_id, pin_index=index, label=label or f"V{index}", value=empty, value_type="none")
    value = plain(latest.value)
    return Pin(
        board_id=board_id,
        pin_index=index,
        label=label or f"V{index}",
        value=Value.from_python(value),
        value_type=type_of(value),
        text=canonical_text(value),
        updated_at=to_timestamp(latest.at_us),
        updated_by=latest.updated_by,
        seq=latest.seq,
    )
