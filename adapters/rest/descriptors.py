"""What only the compiled descriptors with their source tell: comments, and which JSON names were written by hand.

The descriptors inside the generated modules carry neither. Comments are read from `gen/descriptors.binpb`, once and when first
asked for, since that takes a good part of a start; the few names, which every start needs, have a file of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from protobuf import DescField, DescMessage
from protobuf.wkt import FileDescriptorProto, FileDescriptorSet
from protobuf.wkt.google.protobuf.descriptor_pb import DescriptorProto, EnumDescriptorProto

GENERATED = Path(__file__).resolve().parents[2] / "gen"
IMAGE = GENERATED / "descriptors.binpb"
JSON_NAMES = GENERATED / "json_names.txt"

# Field numbers of descriptor.proto, of which the paths of source locations are made.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM = 2, 3, 4
_SERVICE_METHOD, _ENUM_VALUE, _FIELD_JSON_NAME = 2, 2, 10


@dataclass(frozen=True, slots=True)
class Source:
    """What the sources say beyond the descriptors.

    Attributes:
        comments: Leading comment by full name: `busbar.maker.v1.Pin`, `busbar.maker.v1.Pin.label`, `….PinService.ReadPin`.
        json_names: Full names of the fields whose JSON name was written by hand.
    """

    comments: dict[str, str]
    json_names: frozenset[str]


def read(image: Path) -> Source:
    """Read descriptors with their source."""
    comments: dict[str, str] = {}
    json_names: set[str] = set()
    for file in FileDescriptorSet.from_binary(image.read_bytes()).file:
        if file.name.startswith("busbar/"):
            _read_file(file, comments, json_names)
    return Source(comments, frozenset(json_names))


@cache
def _comments() -> dict[str, str]:
    return read(IMAGE).comments if IMAGE.exists() else {}


@cache
def _json_names() -> frozenset[str]:
    return frozenset(JSON_NAMES.read_text().split()) if JSON_NAMES.exists() else frozenset()


def comment(name: str) -> str:
    """Return the comment of a thing by its full name, as one line for each paragraph; empty when it has none."""
    text = _comments().get(name, "")
    paragraphs = [" ".join(line.strip() for line in part.splitlines()) for part in text.split("\n\n")]
    return "\n".join(paragraph for paragraph in paragraphs if paragraph)


def json_name(field: DescField, *, declared: bool) -> str:
    """Return the name of a field in JSON: lowerCamelCase, or as declared unless another was written by hand."""
    if not declared or field.json_name not in (field.name, _camel(field.name)):
        return field.json_name
    return field.json_name if f"{field.parent.type_name}.{field.name}" in _json_names() else field.name


def field_by_name(message: DescMessage, name: str) -> DescField | None:
    """Return a field by any of its names."""
    return next((field for field in message.fields if name in (field.name, field.json_name)), None)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _read_file(file: FileDescriptorProto, comments: dict[str, str], json_names: set[str]) -> None:
    names = _names(file)
    if file.source_code_info is None:
        return
    for location in file.source_code_info.location:
        path = tuple(location.path)
        if path in names:
            if location.leading_comments:
                comments[names[path]] = location.leading_comments.strip()
        elif path[-1:] == (_FIELD_JSON_NAME,) and path[-3:-2] == (_MESSAGE_FIELD,) and path[:-1] in names:
            json_names.add(names[path[:-1]])


def _names(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    names: dict[tuple[int, ...], str] = {}
    for index, message in enumerate(file.message_type):
        _name_message(message, f"{file.package}.{message.name}", (_FILE_MESSAGE, index), names)
    _name_enums(file.enum_type, file.package, (_FILE_ENUM,), names)
    for index, service in enumerate(file.service):
        name = f"{file.package}.{service.name}"
        names[_FILE_SERVICE, index] = name
        for number, method in enumerate(service.method):
            names[_FILE_SERVICE, index, _SERVICE_METHOD, number] = f"{name}.{method.name}"
    return names


def _name_message(message: DescriptorProto, name: str, path: tuple[int, ...], names: dict[tuple[int, ...], str]) -> None:
    names[path] = name
    for index, field in enumerate(message.field):
        names[*path, _MESSAGE_FIELD, index] = f"{name}.{field.name}"
    for index, nested in enumerate(message.nested_type):
        _name_message(nested, f"{name}.{nested.name}", (*path, _MESSAGE_NESTED, index), names)
    _name_enums(message.enum_type, name, (*path, _MESSAGE_ENUM), names)


def _name_enums(
    enums: Sequence[EnumDescriptorProto], scope: str, path: tuple[int, ...], names: dict[tuple[int, ...], str]
) -> None:
    for index, enum in enumerate(enums):
        names[*path, index] = f"{scope}.{enum.name}"
        for number, value in enumerate(enum.value):
            names[*path, index, _ENUM_VALUE, number] = f"{scope}.{enum.name}.{value.name}"
