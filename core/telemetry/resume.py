"""Where a reader of arriving points is, as it is written into cursors, and what it missed, as it is read from storage."""

from __future__ import annotations

from typing import NamedTuple

from core.kernel.errors import InvalidArgument
from core.signals.model import StoredPoint
from core.signals.series import Place, Selection
from core.signals.service import Signals
from core.telemetry.journal import Position
from core.telemetry.points import MESSAGE_BYTES, fitting

_BIAS = 1 << 62
"""Added to times of points, which may lie before 1970: no number in a cursor has a sign."""
BEGINNING = Place(-_BIAS, 0, 0)
"""Before every point."""
_LIVE_PARTS, _REFILL_PARTS = 3, 7


class Refill(NamedTuple):
    """A stretch of arrivals that is being read from storage in the order of the points' own times.

    Attributes:
        until: Number after the last arrival that belongs to it.
        place: The last point that the reader has.
    """

    until: int
    place: Place


class Cursor(NamedTuple):
    """How far a reader is.

    Attributes:
        position: Where to go on in the journal, with a refill after that.
        arrived: Number of arrival: the reader has all points with lower ones.
        refill: What it reads from storage first.
    """

    position: Position
    arrived: int
    refill: Refill | None = None

    @property
    def token(self) -> str:
        """Return the form that clients keep."""
        parts = [*self.position, self.arrived]
        if self.refill is not None:
            at_us, channel_id, n = self.refill.place
            parts += (self.refill.until, at_us + _BIAS, channel_id, n)
        return "-".join(map(str, parts))

    @classmethod
    def parse(cls, token: str) -> Cursor:
        """Return the cursor that a client kept.

        Raises:
            InvalidArgument: It is none.
        """
        parts = token.split("-")
        if len(parts) not in {_LIVE_PARTS, _REFILL_PARTS} or not all(part.isascii() and part.isdigit() for part in parts):
            raise InvalidArgument("invalid cursor", field="cursor")
        numbers = list(map(int, parts))
        if max(numbers) >= 1 << 63:
            raise InvalidArgument("invalid cursor", field="cursor")
        cursor, done, arrived, *rest = numbers
        if not rest:
            return cls(Position(cursor, done), arrived)
        until, at_us, channel_id, n = rest
        return cls(Position(cursor, done), arrived, Refill(until, Place(at_us - _BIAS, channel_id, n)))


class Gap:
    """What one reader missed, page after page.

    Nothing stays open in storage between pages, and only one is held.

    Attributes:
        until: Number after the last arrival that belongs to it.
    """

    def __init__(self, signals: Signals, chosen: Selection, until: int, after: Place) -> None:
        self._signals = signals
        self._chosen = chosen
        self.until = until
        self._after = after

    @property
    def refill(self) -> Refill:
        """How far it is read."""
        return Refill(self.until, self._after)

    async def read(self, most: int) -> list[StoredPoint]:
        """Return the next points, as many as fit into a message; none at the end."""
        page = await self._signals.page(self._chosen, self._after, most)
        count, _ = fitting((placed.point.value for placed in page), MESSAGE_BYTES)
        page = page[: max(1, count)]
        if page:
            self._after = page[-1].place
        return [placed.point for placed in page]
