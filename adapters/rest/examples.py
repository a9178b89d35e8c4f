"""Examples for the OpenAPI document: a value for each JSON body and answer, which fits its schema, and each refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

from adapters.rest.dialects import DIALECTS, JSON, Asked, Dialect, Refusal
from gen.busbar.api.v1.options_pb import Surface

Schema = dict[str, Any]

NOTHING: Final = object()
"""Stands for an example that cannot be made up, such as one of an odd pattern."""

SENTENCES = {
    "400": "name: must be 1-80 characters",
    "401": "authentication required",
    "403": "insufficient scope: pins:write required",
    "404": "board not found",
    "409": "the name is taken",
    "412": "it has changed since revision 3",
    "413": "request body is larger than 1048576 bytes",
    "415": "content type text/plain is not supported, use application/json",
    "422": "name: must be 1-80 characters",
    "429": "too many requests, try again later",
    "503": "storage is unavailable, try again later",
    "default": "internal error",
}
FORMATS = {
    "date-time": "2026-01-31T12:00:00.000Z",
    "email": "ann@example.com",
    "uuid": "01945e1a-6b7c-7def-8123-456789abcdef",
    "uri": "https://example.com/hook",
    "hostname": "rig-1.example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "byte": "aGVsbG8=",
    "int64": "1738324800000",
}
WORDS = (
    "bench",
    "rig-1",
    "ann@example.com",
    "V5",
    "7",
    "1.0.0",
    "wifi",
    "2026-01-31",
    "#ff8800",
    "https://example.com",
    "a" * 64,
)
"""Texts of which one fits most patterns."""
ANY = 21.5


def add_examples(document: Schema) -> None:
    """Put an example beside the schema of each JSON body and answer, in place."""
    made = _Examples(document["components"]["schemas"])
    for operation in _operations(document):
        dialect = DIALECTS.get(Surface[operation.get("x-surface", "maker").upper()], DIALECTS[Surface.MAKER])
        for code, media in _media(operation):
            if "example" in media or "examples" in media:
                continue
            value = made.value(media["schema"]) if code[:1] in "2b" else _refusal(code, dialect)
            if value is not NOTHING:
                media["example"] = value


def _operations(document: Schema) -> Iterator[Schema]:
    for item in document["paths"].values():
        yield from (operation for operation in item.values() if isinstance(operation, dict) and "responses" in operation)


def _media(operation: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield the JSON forms of an operation with their status, which is `body` for what is sent."""
    for code, part in {"body": operation.get("requestBody", {}), **operation["responses"]}.items():
        # Refusals share their forms, of which each needs an example of its own.
        content = part.get("content", {})
        if JSON in content and "schema" in content[JSON]:
            part["content"] = {**content, JSON: dict(content[JSON])}
            yield code, part["content"][JSON]


def _refusal(code: str, dialect: Dialect) -> Any:  # noqa: ANN401 - any JSON
    sentence = SENTENCES.get(code)
    if sentence is None:
        return NOTHING
    status = int(code) if code.isdigit() else 500
    kind, content = dialect.envelope(Refusal(status, sentence), Asked("", accept=JSON))
    return orjson.loads(content) if kind == JSON else NOTHING


class _Examples:
    """Makes values that fit schemas."""

    def __init__(self, components: dict[str, Schema]) -> None:
        self._components = components
        self._open: list[str] = []

    def value(self, schema: Schema) -> Any:  # noqa: ANN401 - any JSON
        """Return a value; NOTHING where none can be made up."""
        if "$ref" in schema:
            return self._referred(schema["$ref"].rpartition("/")[2])
        for keyword in ("examples", "enum"):
            if schema.get(keyword):
                return schema[keyword][0]
        for keyword in ("anyOf", "oneOf"):
            found = (self.value(one) for one in schema.get(keyword, ()) if one.get("type") != "null")
            if (first := next((value for value in found if value is not NOTHING), NOTHING)) is not NOTHING:
                return first
        return self._of_kind(_kind(schema.get("type", "")), schema)

    def _referred(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        if name in self._open:
            return NOTHING
        self._open.append(name)
        try:
            return self.value(self._components[name])
        finally:
            self._open.pop()

    def _of_kind(self, kind: str, schema: Schema) -> Any:  # noqa: ANN401 - any JSON
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            item = self.value(schema.get("items", {}))
            return [] if item is NOTHING and not schema.get("minItems") else NOTHING if item is NOTHING else [item]
        if kind == "string":
            return _text(schema)
        if kind in ("integer", "number"):
            return _number(kind, schema)
        return {"boolean": True, "null": None, "": ANY}.get(kind, NOTHING)

    def _object(self, schema: Schema) -> Any:  # noqa: ANN401 - any JSON
        members = {name: self.value(member) for name, member in schema.get("properties", {}).items()}
        missing = [name for name in schema.get("required", ()) if members.get(name, NOTHING) is NOTHING]
        if not missing:
            return {name: value for name, value in members.items() if value is not NOTHING}
        nullable = {name: None for name in missing if _may_be_null(schema["properties"].get(name, {}))}
        return {**members, **nullable} if len(nullable) == len(missing) else NOTHING


def _kind(kinds: str | list[str]) -> str:
    return kinds if isinstance(kinds, str) else next((kind for kind in kinds if kind != "null"), "null")


def _may_be_null(schema: Schema) -> bool:
    return "null" in schema.get("type", ()) or any(one.get("type") == "null" for one in schema.get("anyOf", ()))


def _text(schema: Schema) -> Any:  # noqa: ANN401 - text, or NOTHING
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength", 1 << 30)
    words = (FORMATS.get(schema.get("format", ""), "bench"), *WORDS, "x" * shortest)
    pattern = schema.get("pattern", "")
    fits = (word for word in words if shortest <= len(word) <= longest and re.search(pattern, word))
    return next(fits, NOTHING)


def _number(kind: str, schema: Schema) -> int | float:
    value: int | float = 1 if kind == "integer" else ANY
    value = max(value, schema.get("minimum", value), schema.get("exclusiveMinimum", value - 1) + 1)
    return min(value, schema.get("maximum", value), schema.get("exclusiveMaximum", value + 1) - 1)
