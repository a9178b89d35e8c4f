"""Settings of plugins for the eyes of those who may not change them: what looks like a secret is masked."""

from __future__ import annotations

import json
import re
from typing import Any, cast

MASK = "***"
_SECRET = re.compile(
    r"pass(word|wd|phrase)?|pwd|secret|token|credential|auth|private|api.?key|(^|_|-)key$|(^|_|-)pin$", re.IGNORECASE
)


def masked(config_json: str | None) -> str | None:
    """Return settings with their secrets masked. A text that is no JSON is masked whole, since nothing tells what it holds."""
    if config_json is None:
        return None
    try:
        return json.dumps(_masked(json.loads(config_json)), ensure_ascii=False)
    except ValueError:
        return MASK


def _masked(value: Any) -> object:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value).items()
        return {name: MASK if _SECRET.search(name) and inner is not None else _masked(inner) for name, inner in members}
    if isinstance(value, list):
        return [_masked(inner) for inner in cast("list[Any]", value)]
    return value
