"""The content of documents: JSON values with one canonical text, so that equal contents are equal bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import orjson

Json: TypeAlias = Any
"""None, bool, int, float, str, or lists and string-keyed dicts of these."""

EXACT = 2**53
"""Below this an integral double is written as an integer without losing anything."""
DEEPEST = 200
"""Levels of any content; what reads JSON elsewhere gives up not far beyond."""


@dataclass(frozen=True, slots=True)
class Content:
    """A JSON value as it is kept.

    Attributes:
        text: Canonical JSON: members by name, no spaces, whole numbers without a fraction.
        digest: SHA-256 of the text, in hex.
        size: Bytes of the text.
        restored_from: Revision of the same document that it is taken from.
    """

    text: str
    digest: str
    size: int
    restored_from: int | None = None

    @classmethod
    def of(cls, value: Json) -> Content:
        """Make the canonical form. Takes time for large values: do it before a unit of work begins.

        Raises:
            ValueError: The value is not JSON, is nested too deeply, or holds a number or string that JSON cannot.
        """
        data = canonical(value)
        return cls(data.decode(), hashlib.sha256(data).hexdigest(), len(data))


def canonical(value: Json) -> bytes:
    """Return the canonical JSON of a value.

    Raises:
        ValueError: It has none.
    """
    try:
        return orjson.dumps(_normal(value, 0), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"is not JSON: {error}") from error


def depth(value: Json) -> int:
    """Return how many arrays and objects lie within each other; 0 for a scalar."""
    deepest = 0
    level: list[Json] = [value]
    while any(isinstance(item, dict | list) for item in level):
        deepest += 1
        level = [child for item in level for child in _inside(item)]
    return deepest


def _inside(value: Json) -> list[Json]:
    if isinstance(value, dict):
        return list(cast("dict[str, Json]", value).values())
    return cast("list[Json]", value) if isinstance(value, list) else []


def _normal(value: Json, level: int) -> Json:
    """Return a value whose numbers have one form each: 1.0 becomes 1, and -0.0 becomes 0."""
    if isinstance(value, dict):
        return {name: _normal(member, level + 1) for name, member in _entered(value, level).items()}
    if isinstance(value, list):
        return [_normal(item, level + 1) for item in _entered(value, level)]
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - only NaN differs from itself
            raise ValueError("holds a number that is not finite")
        return int(value) if value.is_integer() and abs(value) < EXACT else value
    return value


def _entered(value: Json, level: int) -> Json:
    if level >= DEEPEST:
        raise ValueError(f"is nested more than {DEEPEST} levels deep")
    return value
