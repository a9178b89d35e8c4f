"""Differences between contents, as JSON Patch (RFC 6902)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import jsonpatch
import jsonpointer
import orjson

from core.documents.content import DEEPEST, Json, depth
from core.kernel.errors import InvalidArgument, TooLarge

Patch = list[dict[str, Any]]

MOST_OPERATIONS = 1000
"""Operations of one patch."""
MOST_COPIED = 4_194_304
"""Bytes that the `copy` operations of one patch may add: each may double the content, so a few could fill the memory."""
LONGEST_MESSAGE = 200


def diff(before: Json, after: Json) -> Patch:
    """Return the patch that turns one content into another. Takes time for large ones: keep it off the event loop."""
    return jsonpatch.make_patch(before, after).patch


def apply(content: Json, patch: Sequence[Json]) -> Json:
    """Return what a patch makes of a content, which stays as it is. All operations are done, or none.

    Raises:
        InvalidArgument: The patch is not one, does not fit the content, or one of its tests fails.
        TooLarge: It copies more than it may.
    """
    if len(patch) > MOST_OPERATIONS:
        raise InvalidArgument.field("patch", f"must have at most {MOST_OPERATIONS} operations")
    document = orjson.loads(orjson.dumps(content))
    copied = 0
    for index, operation in enumerate(patch):
        try:
            copied += _copied(document, operation)
            document = jsonpatch.JsonPatch([operation]).apply(document, in_place=True)
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
            raise InvalidArgument.field("patch", f"operation {index}: {str(error)[:LONGEST_MESSAGE]}") from error
        if copied > MOST_COPIED:
            raise TooLarge(f"patch: copies more than {MOST_COPIED} bytes", limit_bytes=MOST_COPIED)
    return document


def _copied(document: Json, operation: Json) -> int:
    """Return the bytes that an operation copies, before it does."""
    members = cast("dict[str, Json]", operation) if isinstance(operation, dict) else {}
    source = members.get("from") if members.get("op") == "copy" else None
    if not isinstance(source, str):
        return 0
    part = jsonpointer.resolve_pointer(document, source)
    if depth(part) > DEEPEST:
        raise InvalidArgument.field("patch", f"nests more than {DEEPEST} levels deep")
    return len(orjson.dumps(part))
