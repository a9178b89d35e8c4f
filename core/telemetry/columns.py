"""Columns of numbers on their way in: no row is built before storage needs it."""

from __future__ import annotations

import math

from core.kernel.errors import FieldViolation
from core.kernel.validation import invalid
from core.signals.model import Column
from core.telemetry.decode import MOST_METRIC, SOURCE_ID
from gen.busbar.telemetry.v1.ingest_pb import Column as ColumnMessage
from gen.busbar.telemetry.v1.ingest_pb import IngestColumnsRequest

MOST_VALUES = 100_000


def decode_columns(request: IngestColumnsRequest) -> list[Column]:
    """Return the columns of a batch.

    Raises:
        InvalidArgument: A column is wrong; it is named by its index.
    """
    if sum(len(column.values) for column in request.columns) > MOST_VALUES:
        raise invalid((FieldViolation(("columns",), f"must hold at most {MOST_VALUES} values together"),))
    for index, column in enumerate(request.columns):
        _check(column, index)
    return [
        Column(c.source_id, c.metric, c.timestamps_us, c.values, c.session_id or None, None, "metric")
        for c in request.columns
        if c.values
    ]


def _check(column: ColumnMessage, index: int) -> None:
    problem = None
    if not SOURCE_ID.fullmatch(column.source_id):
        problem = "source_id", "must be lower case letters, digits, '.', '_' and '-', at most 256"
    elif not 0 < len(column.metric) <= MOST_METRIC:
        problem = "metric", "must be 1 to 256 characters"
    elif len(column.timestamps_us) != len(column.values):
        problem = "values", f"must hold as many as timestamps_us, {len(column.timestamps_us)}"
    elif not math.isfinite(math.fsum(column.values)) and not all(map(math.isfinite, column.values)):
        problem = "values", "must be finite"
    if problem is not None:
        raise invalid((FieldViolation(("columns", index, problem[0]), problem[1]),))
