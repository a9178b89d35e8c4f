"""Checks of stored values: whether all of them meet a condition. Done by the database, so series may be long."""

from __future__ import annotations

from collections.abc import Sequence
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


async def check(tx: Tx, channel_ids: Sequence[int], scope: Scope, operator: str, value: float) -> Check:
    """Compare all values of some channels with a number. What is no number meets no condition."""
    if scope.recording_id is not None:
        where, arguments = "channel_id = $1 AND recording_id = $2", (scope.recording_id,)
    else:
        where, arguments = "channel_id = $1 AND at_us >= $2 AND at_us <= $3", (scope.start_us, scope.end_us)
    count = f"SELECT count(*) FROM point WHERE {where}"  # noqa: S608 - constants
    compared = f"${len(arguments) + 2}"
    failing = (
        f"SELECT at_us, num FROM point WHERE {where} AND (num IS NULL OR NOT num {OPERATORS[operator]} {compared})"  # noqa: S608
        " ORDER BY at_us, n LIMIT 1"
    )
    total, failures = 0, list[tuple[int, float | None]]()
    for channel_id in channel_ids:
        found = (await tx.fetch(count, channel_id, *arguments))[0][0]
        total += found
        if found:
            failures += [(row[0], row[1]) for row in await tx.fetch(failing, channel_id, *arguments, value)]
    if not failures:
        return Check(total)
    return Check(total, *min(failures, key=lambda failure: failure[0]))
