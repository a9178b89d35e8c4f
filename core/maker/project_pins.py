"""The pins of a project: those of all its boards together."""

from __future__ import annotations

from typing import Any

from protobuf.wkt import ListValue, Timestamp, Value
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Principal
from core.kernel.clock import Clock, to_datetime, to_timestamp
from core.maker.access import Role
from core.maker.attachments import Attachments
from core.maker.boards import KnownBoard
from core.maker.pin_values import plain
from core.maker.pins import PinService
from gen.busbar.maker.v1.pins_pb import Pin
from gen.busbar.maker.v1.projects_pb import ProjectPins


class ProjectPinMap:
    """Reads the present values of all pins of a project, from memory once it is known which boards are attached."""

    def __init__(self, attachments: Attachments, pins: PinService, clock: Clock) -> None:
        self._attachments = attachments
        self._pins = pins
        self._clock = clock

    async def read(self, session: AsyncSession, project_id: str, caller: Principal) -> ProjectPins:
        """Return the pins for a member.

        Raises:
            NotFound: The caller cannot see the project.
            PermissionDenied: The caller sees it without being a member.
        """
        await self._attachments.access.seat(session, project_id, caller, Role.VIEWER)
        rows = await self._attachments.boards(session, project_id, caller)
        boards = [KnownBoard(row.id, row.org_id, row.owner_id, row.device_id) for row, _ in rows]
        return ProjectPins(
            project_id=project_id,
            pins=self._flat(boards),
            boards={board.id: _listed(self._pins.written(board)) for board in boards},
            server_time=to_timestamp(self._clock.now_us()),
        )

    def _flat(self, boards: list[KnownBoard]) -> dict[str, Value]:
        """Return one value for each index: of several boards, the one that was written last."""
        newest: dict[int, tuple[int, Any]] = {}
        for board in boards:
            for index, latest in self._pins.latest(board).items():
                if index not in newest or latest.at_us > newest[index][0]:
                    newest[index] = (latest.at_us, plain(latest.value))
        return {f"V{index}": Value.from_python(newest[index][1]) for index in sorted(newest)}


def _listed(pins: list[Pin]) -> ListValue:
    return ListValue.from_python([_members(pin) for pin in pins])


def _members(pin: Pin) -> dict[str, Any]:
    """Return a pin with the members that it has where it is read alone: a map cannot hold lists of messages."""
    return {
        "boardId": pin.board_id,
        "pinIndex": pin.pin_index,
        "label": pin.label,
        "value": None if pin.value is None else pin.value.to_python(),
        "valueType": pin.value_type,
        "text": pin.text,
        "updatedAt": _time(pin.updated_at),
        "updatedBy": pin.updated_by,
        "seq": pin.seq,
    }


def _time(at: Timestamp | None) -> str | None:
    if at is None:
        return None
    moment = to_datetime(at.seconds * 1_000_000 + at.nanos // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
