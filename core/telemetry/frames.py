"""Camera pictures on their way to those who watch. They are told on the live bus and never stored."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any, cast

from python_multipart import parse_form
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File

from core.kernel.errors import InvalidArgument
from core.live.events import Topic
from gen.busbar.api.v1.error_reason_pb import ErrorReason

TEXTS = ("source_id", "camera_id", "timestamp", "run_id", "tags")
MOST_NAME = 256
"""Characters of an id, as in points."""


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """A picture of one camera.

    Attributes:
        timestamp: When it was taken, in milliseconds since the Unix epoch.
        jpeg: The picture.
    """

    source_id: str
    camera_id: str
    timestamp: float
    jpeg: bytes
    run_id: str | None = None
    tags: dict[str, Any] | None = None


def frames_topic(org_id: str) -> Topic:
    """Return the topic of all pictures that an organisation receives."""
    return org_id, "frames"


def read_form(content_type: str, body: bytes) -> VideoFrame:
    """Read a picture from a `multipart/form-data` body.

    Raises:
        InvalidArgument: The body is no such form, or a part of it is missing or wrong.
    """
    parts = _parts(content_type, body)
    texts = {name: _text(name, parts[name]) for name in TEXTS if name in parts}
    jpeg = parts.get("frame")
    if not jpeg:
        raise InvalidArgument.field("frame", "required, as a JPEG file")
    return VideoFrame(
        source_id=_required(texts, "source_id"),
        camera_id=_required(texts, "camera_id"),
        timestamp=_number("timestamp", _required(texts, "timestamp")),
        jpeg=jpeg,
        run_id=texts.get("run_id") or None,
        tags=_object("tags", texts.get("tags", "")),
    )


def _parts(content_type: str, body: bytes) -> dict[str, bytes]:
    if not content_type.lower().startswith("multipart/form-data"):
        raise InvalidArgument("the body must be multipart/form-data", reason=ErrorReason.MALFORMED_BODY)
    parts: dict[str, bytes] = {}

    def on_field(field: Field) -> None:
        parts[(field.field_name or b"").decode("latin-1")] = field.value or b""

    def on_file(file: File) -> None:
        file.file_object.seek(0)
        parts[(file.field_name or b"").decode("latin-1")] = file.file_object.read()
        file.close()

    try:
        # Without a length the parser reads to the end; large files would be spooled to disk, but bodies are bounded.
        parse_form({"Content-Type": content_type.encode()}, io.BytesIO(body), on_field, on_file)
    except (FormParserError, ValueError) as error:
        raise InvalidArgument("the body is not a valid form", reason=ErrorReason.MALFORMED_BODY) from error
    return parts


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode().strip()
    except UnicodeDecodeError:
        raise InvalidArgument.field(name, "must be UTF-8") from None


def _required(texts: dict[str, str], name: str) -> str:
    value = texts.get(name, "")
    if not value or len(value) > MOST_NAME:
        raise InvalidArgument.field(name, "required, 1 to 256 characters")
    return value


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number - number != 0:
        raise InvalidArgument.field(name, "must be a finite number")
    return number


def _object(name: str, text: str) -> dict[str, Any] | None:
    try:
        value: object = json.loads(text) if text else None
    except (ValueError, RecursionError):
        value = text
    if value is None or isinstance(value, dict):
        return cast("dict[str, Any] | None", value)
    raise InvalidArgument.field(name, "must be a JSON object")
