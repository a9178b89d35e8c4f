"""What the log says about changes of the context, and the client shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from gen.busbar.plans.v1.contexts_pb import Context

NOTHING_ADDED = "No context added"

_WORDS = {
    "file": ("a file", "files"),
    "url": ("a url", "urls"),
    "note": ("a note", "notes"),
    "directory tree": ("a directory tree", "directory trees"),
    "piped data": ("piped data", "pieces of piped data"),
    "image": ("an image", "images"),
    "map": ("a map", "maps"),
}


def loaded(items: Sequence[Context], added: int, total: int) -> str:
    """Return the entry for items that were loaded."""
    return f"Loaded {_counted(items)} into context | added → {added} 🪙 |  total → {total} 🪙\n\n{_table(items)}"


def updated(items: Sequence[Context], added: int, total: int) -> str:
    """Return the entry for items that changed; `added` is negative when they shrank."""
    change = f"added → {added} 🪙" if added >= 0 else f"removed → {-added} 🪙"
    return f"Updated {_counted(items)} in context | {change} | total → {total} 🪙\n\n{_table(items)}"


def removed(items: Sequence[Context], tokens: int, total: int) -> str:
    """Return the entry for items that were removed."""
    pieces = "1 piece" if len(items) == 1 else f"{len(items)} pieces"
    return f"Removed {pieces} of context | removed → {tokens} 🪙 | total → {total} 🪙\n\n{_table(items)}"


def _counted(items: Iterable[Context]) -> str:
    counts = Counter(item.context_type for item in items)
    return ", ".join(_WORDS[kind][0] if count == 1 else f"{count} {_WORDS[kind][1]}" for kind, count in counts.items())


def _table(items: Iterable[Context]) -> str:
    rows = [(" ".join((item.name or item.file_path).split()), item.context_type, str(item.num_tokens)) for item in items]
    rows.insert(0, ("Name", "Type", "🪙"))
    wide, middle = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f" {name:<{wide}} | {kind:<{middle}} | {tokens}".rstrip() for name, kind, tokens in rows)
