"""How a command looks to the device that gets it. Older devices take it as it is; newer ones know typed commands only."""

from __future__ import annotations

import secrets
import uuid
from typing import Any, cast

TYPED_PLATFORMS = frozenset({"python-sdk", "c-sdk"})
"""Platforms whose devices know typed commands only, whether or not they name a protocol."""
TYPED = frozenset({"typed_command", "command_run"})
RAW = frozenset({
    "start_stream", "stop_stream", "start_session", "stop_session", "configure", "execute", "cancel", "ping", "start_camera",
    "stop_camera", "configure_camera", "start_can", "stop_can", "start_mavlink", "stop_mavlink", "mavlink_command",
})  # fmt: skip
"""Commands that are a type of frame of their own."""
SHELL = frozenset({"execute", "cancel"})
"""Commands that run programs on the device, or end them."""

Members = dict[str, Any]


def command_of(kind: str, members: Members) -> str:
    """Return what a frame wants done."""
    return str(members.get("command") or "") if kind in TYPED else kind


def shape(kind: str, members: Members, source_id: str, *, typed: bool) -> Members:
    """Return a command as its device understands it.

    Args:
        kind: Type of frame.
        members: Its members; organisation and other sources do not get through.
        source_id: Source of the device.
        typed: Whether the device knows typed commands only.
    """
    known = {name: value for name, value in members.items() if name not in ("type", "org_id", "source_id")}
    known["source_id"] = source_id
    if kind == "stop_stream" and (stream := known.get("id") or known.get("stream_id")):
        known["id"] = known["stream_id"] = stream
    if kind == "start_stream" and not known.get("id"):
        known["id"] = f"stream_{secrets.token_hex(6)}"
    if kind in TYPED:
        return {"type": kind, **known, **_own_params(known, source_id)}
    if not typed:
        return {"type": kind, **known}
    answers_to = known.pop("id", None) or str(uuid.uuid4())
    return {"type": "typed_command", "id": answers_to, "command": kind, "params": known}


def _own_params(members: Members, source_id: str) -> Members:
    params = members.get("params")
    if not isinstance(params, dict):
        return {}
    kept = {name: value for name, value in cast("Members", params).items() if name != "org_id"}
    return {"params": {**kept, "source_id": source_id} if "source_id" in kept else kept}
