"""Making good what is derived of points after some were deleted, in the transaction that deletes them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from core.signals.directory import Directory
from core.signals.ingest import BOARD
from core.signals.model import Latest
from core.signals.removal import STEP_ROWS
from core.signals.rollups import WIDTHS_US
from core.signals.values import decode
from core.storage.tx import Tx, fetch_one

T = TypeVar("T")
Job = Callable[[Tx], Coroutine[Any, Any, T]]

_CLEAR = "DELETE FROM rollup WHERE channel_id = $1 AND width_us = $2 AND bucket_us >= $3 AND bucket_us < $4"
_INTO = (
    "INSERT INTO rollup (channel_id, width_us, bucket_us, low, high)"
    " SELECT $1, $2, $3 + (at - $3) / $2 * $2, min(low), max(high) FROM"
)
_OF_POINTS = (
    f"{_INTO} (SELECT at_us AS at, num AS low, num AS high FROM point"  # noqa: S608 - constants
    " WHERE channel_id = $1 AND at_us >= $3 AND at_us < $4 AND num IS NOT NULL) AS p GROUP BY (at - $3) / $2"
)
_OF_ROLLUPS = (
    f"{_INTO} (SELECT bucket_us AS at, low, high FROM rollup"  # noqa: S608 - constants
    " WHERE channel_id = $1 AND width_us = $5 AND bucket_us >= $3 AND bucket_us < $4) AS r GROUP BY (at - $3) / $2"
)
_KNOWN = "SELECT at_us, num, text, seq, updated_by, written_us FROM latest WHERE channel_id = $1"
_NEWEST = "SELECT at_us, num, text FROM point WHERE channel_id = $1 ORDER BY at_us DESC, n DESC LIMIT 1"
_OF_RECORDING = "SELECT at_us FROM point WHERE channel_id = $1 AND at_us >= $3 AND recording_id = $2 ORDER BY at_us LIMIT $4"
_DELETE_RECORDED = "DELETE FROM point WHERE channel_id = $1 AND at_us >= $3 AND at_us <= $4 AND recording_id = $2"


async def rollups(tx: Tx, channel_id: int, first_us: int, last_us: int) -> None:
    """Make rollups anew that hold some times. Each is made of the finer ones, so a single point costs little."""
    finer = None
    for width in WIDTHS_US:
        start, end = first_us // width * width, (last_us // width + 1) * width
        await tx.execute(_CLEAR, channel_id, width, start, end)
        if finer is None:
            await tx.execute(_OF_POINTS, channel_id, width, start, end)
        else:
            await tx.execute(_OF_ROLLUPS, channel_id, width, start, end, finer)
        finer = width


async def latest(tx: Tx, channel_id: int, directory: Directory) -> tuple[Latest | None, bool]:
    """Set the latest value of a channel to its newest point, if it is of one that is gone; return it and whether it changed.

    The pin of a board keeps its state, which is more than its history.
    """
    channel = directory.channel_by_id(channel_id)
    device = None if channel is None else directory.get(channel.device_id)
    if device is None or device.kind == BOARD:
        return None, False
    known = await fetch_one(tx, _KNOWN, channel_id)
    newest = await fetch_one(tx, _NEWEST, channel_id)
    if known is None or (newest is not None and tuple(known[:3]) == tuple(newest)):
        return None, False
    if newest is None:
        await tx.execute("DELETE FROM latest WHERE channel_id = $1", channel_id)
        return None, True
    await tx.execute("UPDATE latest SET at_us = $2, num = $3, text = $4 WHERE channel_id = $1", channel_id, *newest)
    at_us, num, text = newest
    return Latest(at_us, decode(num, text), *known[3:]), True


async def recorded_step(tx: Tx, channel_id: int, recording_id: int, start_us: int) -> tuple[int, int, int]:
    """Delete some of the oldest points of a recording in a channel; return their first and last time, and how many went."""
    times = await tx.fetch(_OF_RECORDING, channel_id, recording_id, start_us, STEP_ROWS)
    if not times:
        return 0, 0, 0
    first, last = times[0][0], times[-1][0]
    return first, last, await tx.execute(_DELETE_RECORDED, channel_id, recording_id, first, last)
