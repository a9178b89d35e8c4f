"""Reads JSON text, strictly."""

from __future__ import annotations

import json
from typing import Any

import orjson

from adapters.rest.body import malformed
from core.kernel.errors import FieldViolation, InvalidArgument
from core.kernel.json_members import is_whole, require_unique
from gen.busbar.api.v1.error_reason_pb import ErrorReason


def loads(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Read JSON text, strictly: no NaN, no lone surrogates, no member twice.

    Raises:
        InvalidArgument: It is not JSON.
    """
    try:
        value: object = orjson.loads(data)
        if not is_whole(data, _written(value)):
            require_unique(data)
    except json.JSONDecodeError as error:
        told = _usual_error(data) or error
        fault = FieldViolation((), _not_json(data, error), "json", told.pos, told.msg)
        raise InvalidArgument(fault.description, reason=ErrorReason.MALFORMED_BODY, violations=(fault,)) from error
    except RecursionError as error:
        raise malformed("request body is nested too deeply") from error
    return value


def _written(value: object) -> bytes:
    """Return a value as text; empty where it is nested too deeply to be written, though it could be read."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return b""


def _usual_error(data: bytes) -> json.JSONDecodeError | None:
    """Return the fault that the standard library finds, whose words and offsets clients know; None where it finds none."""
    try:
        json.loads(data)
    except json.JSONDecodeError as error:
        return error
    except (ValueError, RecursionError):
        return None
    return None


def _not_json(data: bytes, error: json.JSONDecodeError) -> str:
    try:
        data.decode()
    except UnicodeDecodeError as fault:
        return f"request body is not valid UTF-8 at {fault.start}"
    return f"request body is not valid JSON: {error.msg} at {error.pos}"
