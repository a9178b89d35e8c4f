"""Arguments of a tool: their names, their schema, and the way from JSON to the request message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from protobuf import DescField, DescMessage, Message, message_from_json_value
from protobuf.wkt import FieldMask

from adapters.mcp.schemas import Schema, SchemaWriter, members, message_of, oneof_of, prefix_of, prefix_pattern
from adapters.rest import opaque
from adapters.rest.violations import find
from core.kernel.errors import DomainError, FieldViolation, InvalidArgument
from core.kernel.rpc import BindingError, Rpc, path_variables, verb_and_path
from core.kernel.validation import field_name, invalid
from gen.busbar.api.v1.options_pb import Tool

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

SHAPE = ("required", "additionalProperties", "type")
"""What is judged by the schema. All else is judged by the rules of the proto, so that every door uses the same words."""

TYPES = {
    "array": "a list",
    "boolean": "a boolean",
    "integer": "an integer",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}


class Arguments:
    """What a tool takes."""

    def __init__(self, rpc: Rpc, tool: Tool) -> None:
        message = rpc.request.desc()
        _check_names(rpc, message, (*tool.arguments, *tool.hidden))
        self._rpc = rpc
        self._mask = next((field for field in message.fields if _is_update_mask(field)), None)
        self._fields = {
            tool.arguments.get(field.name, name): field
            for name, field in members(message, {}, answers=False).items()
            if field.name not in tool.hidden and field is not self._mask
        }
        self._names = {field.name: name for name, field in self._fields.items()}

    @cached_property
    def schema(self) -> Schema:
        """The schema of the arguments."""
        return SchemaWriter(answers=False).object(self._rpc.request.desc(), self._fields, {})

    @cached_property
    def _validator(self) -> Any:  # noqa: ANN401 - the class is known only once it is imported
        # Imported with the first call: it costs a start as much as everything else in this package.
        return import_module("jsonschema").Draft202012Validator(self.schema)

    def decode(self, values: Mapping[str, Any]) -> Message[Any]:
        """Return the request for some arguments.

        Raises:
            InvalidArgument: An argument is missing, unknown, or not what it must be; the message names it.
        """
        try:
            self._check_shape(values)
            self._check_choices(values)
            members = {field.json_name: _plain(field, values[name], (name,)) for name, field in self._given(values)}
            request = self._read(members)
        except RecursionError:
            raise InvalidArgument("the arguments are nested too deeply") from None
        if self._mask is not None:
            setattr(request, self._mask.local_name, FieldMask(paths=self._changed(values)))
        return request

    def explain(self, error: DomainError) -> str:
        """Return the sentence of a refusal, with arguments in the place of fields."""
        if not error.violations:
            return error.message
        first = error.violations[0]
        if error.message != f"{field_name(first.path)}: {first.description}":
            return error.message
        return f"{field_name(self._path(first))}: {first.description}"

    def _check_shape(self, values: Mapping[str, Any]) -> None:
        errors: list[ValidationError] = list(self._validator.iter_errors(dict(values)))
        found = [error for error in errors if error.validator in SHAPE]
        if found:
            first = min(found, key=lambda error: (SHAPE.index(str(error.validator)), [str(part) for part in error.path]))
            raise InvalidArgument(_sentence(first))

    def _check_choices(self, values: Mapping[str, Any]) -> None:
        # Schemas of arguments have no unions, and the codec would quietly take the last of several.
        chosen: dict[str, str] = {}
        for name, field in self._given(values):
            oneof = oneof_of(field)
            other = chosen.setdefault(oneof.name, name) if oneof is not None else name
            if other != name:
                raise InvalidArgument(f"{name}: cannot be given together with {other}")

    def _given(self, values: Mapping[str, Any]) -> list[tuple[str, DescField]]:
        return [(name, field) for name, field in self._fields.items() if name in values]

    def _read(self, members: dict[str, Any]) -> Message[Any]:
        if opaque.concerns(self._rpc.request.desc()):
            folded: list[FieldViolation] = []
            members = opaque.fold(self._rpc.request.desc(), members, (), folded)
            if folded:
                raise invalid(tuple(folded))
        try:
            return message_from_json_value(self._rpc.request, members)
        except (TypeError, ValueError, OverflowError) as error:
            faults = tuple(find(self._rpc.request.desc(), members))
            raise invalid(faults or (FieldViolation((), "the arguments cannot be read", "type"),)) from error

    def _changed(self, values: Mapping[str, Any]) -> list[str]:
        """Return the fields that a partial update changes: those given, but for the ones that name what to change."""
        names = {variable for rule in self._rpc.http for variable in path_variables(verb_and_path(rule)[1])}
        return [field.name for _, field in self._given(values) if field.name not in names]

    def _path(self, violation: FieldViolation) -> tuple[str | int, ...]:
        path: list[str | int] = []
        message: DescMessage | None = self._rpc.request.desc()
        for depth, part in enumerate(violation.path):
            field = next((f for f in message.fields if f.name == part), None) if message is not None else None
            if field is None:
                path.append(part)
                continue
            path.append(self._names.get(field.name, field.json_name) if depth == 0 else field.json_name)
            message = message_of(field)
        return tuple(path)


def _check_names(rpc: Rpc, message: DescMessage, names: tuple[str, ...]) -> None:
    known = {field.name for field in message.fields}
    for name in names:
        if name not in known:
            raise BindingError(f"the tool of {rpc.name} names {name}, which {message.type_name} does not have")


def _is_update_mask(field: DescField) -> bool:
    message = message_of(field)
    return field.name == "update_mask" and message is not None and message.type_name == "google.protobuf.FieldMask"


def _plain(field: DescField, value: Any, path: tuple[str | int, ...]) -> Any:  # noqa: ANN401 - any JSON
    """Return a value without the letters that fields allow before an integer."""
    if isinstance(value, list):
        entries = cast("list[Any]", value)
        return [_plain(field, entry, (*path, index)) for index, entry in enumerate(entries)]
    if isinstance(value, dict):
        message = message_of(field)
        below = {member.json_name: member for member in message.fields} if message is not None else {}
        members = cast("dict[str, Any]", value).items()
        return {name: _plain(below[name], member, (*path, name)) if name in below else member for name, member in members}
    prefix = prefix_of(field)
    if not prefix or not isinstance(value, str):
        return value
    if not re.fullmatch(prefix_pattern(prefix), value, re.ASCII):
        raise InvalidArgument(f"{field_name(path)}: must be an integer")
    return int(value.lstrip(f"{prefix.upper()}{prefix.lower()}"))


def _sentence(error: ValidationError) -> str:
    path: tuple[str | int, ...] = tuple(error.absolute_path)
    instance: Any = error.instance
    schema: Any = error.schema
    if error.validator == "type":
        return f"{field_name(path)}: must be {_types(schema['type'])}"
    if error.validator == "required":
        name = next(name for name in schema["required"] if name not in instance)
        return f"{field_name((*path, name))}: required"
    name = next(name for name in instance if name not in schema["properties"])
    return f"{field_name((*path, name))}: unknown argument"


def _types(wanted: str | list[str]) -> str:
    names = [TYPES[name] for name in ([wanted] if isinstance(wanted, str) else wanted)]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
