"""Members of JSON objects that are named twice: readers of JSON keep the last, so none would know which one counts."""

from __future__ import annotations

import json
from typing import Any

from core.kernel.errors import InvalidArgument
from gen.busbar.api.v1.error_reason_pb import ErrorReason

MOST_SHOWN = 80
"""Characters of a name in a refusal."""


def require_unique(text: bytes) -> None:
    """Look for a member named twice within one object, however deep, in a text that a reader of JSON took.

    Raises:
        InvalidArgument: There is one; the refusal names it.
    """
    # Some numbers are too long to be read, and none is of interest.
    json.loads(text, object_pairs_hook=unique, parse_int=str, strict=False)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of an object.

    Raises:
        InvalidArgument: Two of them have one name.
    """
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgument(f"request body names {twice[:MOST_SHOWN]!r} twice", reason=ErrorReason.MALFORMED_BODY)
    return members
