"""Checks of stored values: whether all of them meet a condition. Done by the database, so series may be long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.storage.tx import Tx

OPERATORS = {">": ">", ">=": ">=", "<": "<", "<=": "<=", "=": "=", "!=": "<>"}
"""Comparisons by name, in SQL."""


class Check(NamedTuple):
    """What came of a check.

    Attributes:
        total: Values that were looked at.
        failed_us: Time of the first value that did not meet the condition; None when all did.
        failed: That value; None when it is no number.
    """

    total: int
    failed_us: int | None = None
    failed: float | None = None


class Scope(NamedTuple):
    """Which points are looked at: those of a recording, or those of a range of time that holds its start and its end."""

    recording_id: int | None = None
    start_us: int = 0
    end_us: int = 0


async def check(tx: Tx, ranges: Mapping[int, tuple[int, int]], recording_id: int | None, operator: str, value: float) -> Check:
    """Compare all values of some channels, each in a range without its end, with a number. What is none meets no condition."""
    where = "channel_id = $1 AND at_us >= $2 AND at_us < $3"
    more = () if recording_id is None else (recording_id,)
    if recording_id is not None:
        where += " AND recording_id = $4"
    count = f"SELECT count(*) FROM point WHERE {where}"  # noqa: S608 - constants
    compared = f"${len(more) + 4}"
    failing = (
        f"SELECT at_us, num FROM point WHERE {where} AND (num IS NULL OR NOT num {OPERATORS[operator]} {compared})"  # noqa: S608
        " ORDER BY at_us, n LIMIT 1"
    )
    total, failures = 0, list[tuple[int, float | None]]()
    for channel_id, (start_us, end_us) in ranges.items():
        arguments = channel_id, start_us, end_us, *more
        found = (await tx.fetch(count, *arguments))[0][0]
        total += found
        if found:
            failures += [(row[0], row[1]) for row in await tx.fetch(failing, *arguments, value)]
    if not failures:
        return Check(total)
    return Check(total, *min(failures, key=lambda failure: failure[0]))
