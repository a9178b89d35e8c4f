"""What a benchmark found, and how it is shown.

Ratios are what counts: both sides run in turn within one run, so a slow or noisy machine is slow for both.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Budget:
    """What a row must reach: a bound on its ratio, or on its value where it has no peer."""

    bound: float
    at_most: bool = False

    def met(self, measured: float) -> bool:
        """Whether a measured figure keeps the budget."""
        return measured <= self.bound if self.at_most else measured >= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; without a budget it is for information.

    Attributes:
        path: What was measured.
        unit: Of the medians, such as `requests/s`.
        ours: Median of our rounds.
        peer: Median of the peer's rounds; None where the budget is absolute.
        peer_name: What the peer is.
        ratio: Median of the ratios of single rounds; ours by peer.
        quartiles: First and third quartile of those ratios, which tell how far to trust it.
    """

    path: str
    unit: str
    ours: float
    peer: float | None
    peer_name: str
    ratio: float | None
    quartiles: tuple[float, float] | None
    budget: Budget | None

    @property
    def met(self) -> bool | None:
        """Whether the budget is kept; None without one."""
        return None if self.budget is None else self.budget.met(self.ours if self.ratio is None else self.ratio)

    def as_dict(self) -> dict[str, Any]:
        """Return the row for the results file; what depends least on the machine comes first."""
        budget = self.budget
        return {
            "path": self.path,
            "ratio": _rounded(self.ratio),
            "quartiles": None if self.quartiles is None else [_rounded(value) for value in self.quartiles],
            "budget": None if budget is None else {"at_most" if budget.at_most else "at_least": budget.bound},
            "met": self.met,
            "peer": self.peer_name,
            "unit": self.unit,
            "median_ours": _rounded(self.ours),
            "median_peer": _rounded(self.peer),
        }

    def cells(self) -> tuple[str, ...]:
        """Return the row as it is printed."""
        met = {None: "-", True: "yes", False: "NO"}[self.met]
        return self.path, self._value(self.ours), self._value(self.peer), self._shown_ratio(), self._shown_budget(), met

    def _value(self, value: float | None) -> str:
        return "-" if value is None else f"{_short(value)} {self.unit}"

    def _shown_ratio(self) -> str:
        return "-" if self.ratio is None else self._ratio(self.ratio)

    def _shown_budget(self) -> str:
        if self.budget is None:
            return "information"
        sign = "<=" if self.budget.at_most else ">="
        bound = self.budget.bound
        return f"{sign} {f'{bound:g} {self.unit}' if self.ratio is None else self._ratio(bound)}"

    def _ratio(self, value: float) -> str:
        percent = self.budget.bound < 1 if self.budget is not None else value < 1
        return f"{value:.0%}" if percent else f"{value:.2g} x" if value < 10 else f"{value:.0f} x"


def compare(
    path: str, unit: str, ours: Sequence[float], peer_name: str, peer: Sequence[float], budget: Budget | None = None
) -> Row:
    """Return the row of two series of rounds that ran in turn."""
    ratios = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    middle = statistics.median(ratios)
    return Row(path, unit, statistics.median(ours), statistics.median(peer), peer_name, middle, (low, high), budget)


def absolute(path: str, unit: str, ours: Sequence[float], budget: Budget | None = None) -> Row:
    """Return the row of a value that has a bound of its own."""
    return Row(path, unit, statistics.median(ours), None, "none", None, None, budget)


def table(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table."""
    lines = [("path", "ours", "peer", "ratio", "budget", "met"), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    texts = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    texts.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(texts)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
