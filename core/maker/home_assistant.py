"""Boards and pins in the shapes that Home Assistant's REST platforms read and write.

Home Assistant sends what its configuration says, often `ON` without a Content-Type, and drops a switch for good when its first
read fails. So this service reads generously, and answers a pin that was never written with nulls.
"""

from __future__ import annotations

import re
from typing import cast

import msgspec
from protobuf.wkt import Value

from core.homes.announcements import Json
from core.kernel.call import Call
from core.kernel.clock import to_timestamp
from core.kernel.errors import InvalidArgument
from core.kernel.json_members import require_unique
from core.maker.access import Role
from core.maker.boards import BoardService, KnownBoard
from core.maker.home_entities import entity_of
from core.maker.home_widgets import HomeWidgets
from core.maker.pin_values import MOST_TEXT, Scalar
from core.maker.pins import PinService
from core.maker.tables import BoardRow
from core.storage.database import Database
from gen.busbar.maker.v1.home_assistant_pb import (
    HomeBoard,
    HomeBoardPin,
    HomePin,
    HomeSuggestion,
    ListHomeBoardsRequest,
    ListHomeBoardsResponse,
    ReadHomePinRequest,
    WriteHomePinRequest,
)
from gen.busbar.maker.v1.pins_pb import Pin

DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
WORDS = {"on": 1, "true": 1, "off": 0, "false": 0}
OFF_WORDS = {"", "0", "false", "off", "no", "closed"}


class HomeAssistantService:
    """Serves Home Assistant's REST sensors, switches and commands."""

    def __init__(self, database: Database, boards: BoardService, pins: PinService, widgets: HomeWidgets) -> None:
        self._database = database
        self._boards = boards
        self._pins = pins
        self._widgets = widgets

    async def list_home_boards(self, request: ListHomeBoardsRequest, call: Call) -> ListHomeBoardsResponse:
        """List the boards that the key may see with their written pins."""
        del request
        rows = await self._boards.visible(call.caller)
        async with self._database.read() as session:
            bound = await self._widgets.bound(session, [row.id for row in rows])
        return ListHomeBoardsResponse(boards=[self._board(row, bound[row.id]) for row in rows])

    async def read_home_pin(self, request: ReadHomePinRequest, call: Call) -> HomePin:
        """Read one pin."""
        board = await self._boards.require(request.board_id, call.caller)
        return self._pin(board, self._pins.read(board, request.pin))

    async def write_home_pin(self, request: WriteHomePinRequest, call: Call) -> HomePin:
        """Write one pin from whatever body came."""
        board = await self._boards.require(request.board_id, call.caller, Role.EDITOR)
        body = b"" if request.body is None else request.body.data
        if not body and not request.has_field("value"):
            raise InvalidArgument.field("value", "required, as body or query parameter")
        value = parse_body(body or request.value.encode())
        self._pins.limit(board)
        written = await self._pins.write(board, [(request.pin, value)], by="ha", client_id=call.client_id)
        return self._pin(board, written[0])

    def _board(self, row: BoardRow, bound: dict[int, Json]) -> HomeBoard:
        board = KnownBoard(row.id, row.org_id, row.owner_id, row.device_id)
        available = self._boards.status(row.device_id) == "online"
        return HomeBoard(
            id=row.id,
            name=row.name,
            board_type=row.board_type,
            available=available,
            last_seen_at=to_timestamp(self._boards.last_seen_us(row.device_id)),
            pins=[_listed(pin, bound.get(pin.pin_index), available=available) for pin in self._pins.written(board)],
        )

    def _pin(self, board: KnownBoard, pin: Pin) -> HomePin:
        return HomePin(
            board_id=board.id,
            pin=pin.pin_index,
            name=f"V{pin.pin_index}",
            label=pin.label,
            state=_state(pin),
            value=_value(pin),
            numeric=numeric(pin.text),
            is_on=_is_on(pin),
            available=self._boards.status(board.device_id) == "online",
            updated_at=pin.updated_at,
        )


def _listed(pin: Pin, widget: Json | None, *, available: bool) -> HomeBoardPin:
    entity = entity_of(widget, boolean=pin.value_type == "bool")
    return HomeBoardPin(
        pin=pin.pin_index,
        name=f"V{pin.pin_index}",
        label=pin.label,
        state=_state(pin),
        value=_value(pin),
        numeric=numeric(pin.text),
        is_on=_is_on(pin),
        available=available,
        updated_at=pin.updated_at,
        suggested=HomeSuggestion(platform=entity.platform, **entity.bounds),
    )


def _written(pin: Pin) -> bool:
    return pin.updated_at is not None


def _state(pin: Pin) -> str | None:
    return pin.text if _written(pin) else None


def _value(pin: Pin) -> Value | None:
    return pin.value if _written(pin) else None


def _is_on(pin: Pin) -> bool | None:
    if not _written(pin):
        return None
    number = numeric(pin.text)
    return pin.text.lower() not in OFF_WORDS and number != 0


def numeric(text: str) -> float | None:
    """Return a text as a number when it is a finite decimal; hexadecimal, underscores, inf and nan are none."""
    if not DECIMAL.fullmatch(text):
        return None
    number = float(text)
    if number in (float("inf"), float("-inf")):
        return None
    return int(number) if number.is_integer() and abs(number) < 1e15 else number  # noqa: PLR2004 - exact in a double


def parse_body(body: bytes) -> Scalar:
    """Return the value that a body means: a JSON object with `value` or `state`, a JSON scalar, or any other text.

    Raises:
        InvalidArgument: It is an object without either or with a member named twice, an array, no UTF-8, or longer than a
            pin's text may be.
    """
    if len(body) > MOST_TEXT:
        raise InvalidArgument.field("value", f"must be at most {MOST_TEXT} bytes")
    try:
        text = body.decode().strip()
    except UnicodeDecodeError:
        raise InvalidArgument.field("value", "must be UTF-8") from None
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return _spoken(text)
    if isinstance(value, dict):
        require_unique(body)
        members = cast("dict[str, object]", value)
        if not {"value", "state"} & members.keys():
            raise InvalidArgument.field("value", "required")
        value = members["value"] if "value" in members else members["state"]
    if value is None or isinstance(value, bool | int | float):
        return int(value) if isinstance(value, bool) else value
    if isinstance(value, str):
        return _spoken(value)
    raise InvalidArgument.field("value", "must be a number, a text, a boolean or null")


def _spoken(text: str) -> Scalar:
    word = WORDS.get(text.lower())
    return text if word is None else word
