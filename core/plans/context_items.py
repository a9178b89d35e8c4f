"""Items of the context: what is made of what a client sends, and how large one may be."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from importlib import import_module
from io import BytesIO

from protobuf.wkt import Timestamp

from core.kernel.errors import InvalidArgument
from core.plans.ids import new_uuid
from core.plans.tokens import count_tokens, image_tokens
from gen.busbar.plans.v1.contexts_pb import Context, LoadContextParams, UpdateContextParams

MAP, IMAGE, FILE, NOTE, PIPED = "map", "image", "file", "note", "piped data"
UNNAMED = frozenset({NOTE, PIPED})
"""Kinds for which the client may leave the name to the server."""

MOST_ITEMS = 1000
MOST_BODY = 25 * 1024 * 1024
MOST_MAP_PATHS = 3000
MOST_MAP_ENTRY = 500 * 1024
MOST_PLAN = 1024**3
NO_MAP = "[NO MAP]"


def item_of(params: LoadContextParams, *, owner: str, now: Timestamp, auto_loaded: bool = False) -> Context:
    """Return the item that a client wants to load.

    Raises:
        InvalidArgument: It is too large, or no picture where it must be one.
    """
    item = Context(
        id=new_uuid(),
        owner_id=owner,
        context_type=params.context_type,
        name=params.name or params.file_path or params.url,
        url=params.url,
        file_path=params.file_path,
        force_skip_ignore=params.force_skip_ignore,
        image_detail=params.image_detail,
        auto_loaded=params.auto_loaded or auto_loaded,
        created_at=now,
    )
    if params.context_type == MAP:
        _set_map(item, params)
    else:
        item.body = params.body
    measure(item, now)
    return item


def change_item(item: Context, params: UpdateContextParams, now: Timestamp) -> None:
    """Replace the body of an item, or the parts of a map that are named.

    Raises:
        InvalidArgument: It is too large now, or no picture where it must be one.
    """
    if item.context_type == MAP:
        for path in params.removed_map_paths:
            for part in (item.map_parts, item.map_shas, item.map_tokens, item.map_sizes):
                part.pop(path, None)
        _set_map(item, params)
    else:
        item.body = params.body
    measure(item, now)


def measure(item: Context, now: Timestamp) -> None:
    """Set what follows from the body: digest, size, tokens and the time of change.

    Raises:
        InvalidArgument: It is too large, or no picture where it must be one.
    """
    text = body_of(item)
    size = len(text.encode())
    if item.context_type != MAP and size > MOST_BODY:
        raise InvalidArgument.field("body", f"must have at most {MOST_BODY} bytes: {item.name or item.file_path}")
    item.body_size = size
    item.sha = "" if item.context_type == MAP else hashlib.sha256(text.encode()).hexdigest()
    item.num_tokens = picture_tokens(item) if item.context_type == IMAGE else count_tokens(text)
    item.updated_at = now


def body_of(item: Context) -> str:
    """Return the text of an item as a model reads it; that of a map is made of its parts."""
    return map_text(item.map_parts, item.map_tokens) if item.context_type == MAP else item.body


def map_text(parts: Mapping[str, str], tokens: Mapping[str, int]) -> str:
    """Return the maps of files in one text, in the order of their paths, with what each file costs to read."""
    return "".join(f"\n### {path} ({tokens.get(path, 0)} 🪙)\n\n{parts[path] or NO_MAP}\n" for path in sorted(parts))


def picture_tokens(item: Context) -> int:
    """Return what a picture costs. Raises InvalidArgument when it is none that models read."""
    try:
        data = base64.b64decode(item.body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument.field("body", f"must be base64 of an image: {item.name}") from error
    # Loaded at need: few plans have pictures.
    width, height = import_module("imagesize").get(BytesIO(data))
    if width <= 0 or height <= 0:
        raise InvalidArgument.field("body", f"must be an image of a known kind: {item.name}")
    return image_tokens(width, height, item.image_detail)


def require_room(items: Iterable[Context]) -> None:
    """Hold the whole context of a branch to its limits.

    Raises:
        InvalidArgument: There are too many items, or they are too large together.
    """
    kept = list(items)
    if len(kept) > MOST_ITEMS:
        raise InvalidArgument(f"a plan can hold at most {MOST_ITEMS} items of context")
    if sum(item.body_size for item in kept) > MOST_PLAN:
        raise InvalidArgument(f"a plan can hold at most {MOST_PLAN} bytes of context")


def _set_map(item: Context, params: LoadContextParams | UpdateContextParams) -> None:
    for path, text in params.map_bodies.items():
        if len(text.encode()) > MOST_MAP_ENTRY:
            raise InvalidArgument.field("map_bodies", f"must have at most {MOST_MAP_ENTRY} bytes for a path: {path}")
    parts = {**item.map_parts, **params.map_bodies}
    if len(parts) > MOST_MAP_PATHS:
        raise InvalidArgument.field("map_bodies", f"must have at most {MOST_MAP_PATHS} paths: {item.name or item.file_path}")
    item.map_parts = parts
    item.map_shas = {**item.map_shas, **params.input_shas}
    item.map_tokens = {**item.map_tokens, **params.input_tokens}
    item.map_sizes = {**item.map_sizes, **params.input_sizes}
