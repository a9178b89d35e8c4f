"""When a value meets a rule."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

TOLERANCE = 1e-9
"""Largest difference of values that count as equal."""

RANGES = frozenset({"between", "not_between"})
"""Operators that compare with two thresholds."""

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "gt": operator.gt,
    "lt": operator.lt,
    "gte": operator.ge,
    "lte": operator.le,
    "eq": lambda value, threshold: math.isclose(value, threshold, rel_tol=0.0, abs_tol=TOLERANCE),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """What a rule compares a value with.

    Attributes:
        operator: `gt`, `lt`, `gte`, `lte`, `eq`, `between` or `not_between`.
        threshold: The value to compare with; of a range, its lower end.
        high: Upper end of a range. Nothing meets a range without one.
    """

    operator: str
    threshold: float
    high: float | None = None

    def __str__(self) -> str:
        """Return it as people read it: `gt 5.0`, `between 1.0 and 2.0`."""
        return f"{self.operator} {self.threshold!r}" + (f" and {self.high!r}" if self.operator in RANGES else "")

    def met_by(self, value: float) -> bool:
        """Whether a value meets it. `between` holds both ends, `not_between` none."""
        if self.operator not in RANGES:
            return _COMPARISONS[self.operator](value, self.threshold)
        if self.high is None:
            return False
        if self.operator == "between":
            return self.threshold <= value <= self.high
        return value < self.threshold or value > self.high

    def fault(self) -> str | None:
        """Return what keeps it from making sense as a whole; None when it does."""
        if self.operator in RANGES and self.high is None:
            return "threshold_high required for between/not_between operators"
        if self.high is not None and self.high < self.threshold:
            return "threshold_high must be >= threshold"
        return None


def number_of(value: object) -> float | None:
    """Return a value as rules see it: switches are 0 and 1; texts and objects are nothing."""
    return float(value) if isinstance(value, int | float) else None
