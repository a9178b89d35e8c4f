"""What the documents of projects hold, by kind: who reads them, what is kept, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import orjson
from protobuf import Message, message_from_json_value

from core.documents.content import Content, Json, depth
from core.kernel.errors import FieldViolation, InvalidArgument, TooLarge
from core.kernel.ids import new_id
from core.kernel.validation import invalid, validate
from core.maker.access import Role
from gen.busbar.maker.v1.firmware_pb import FirmwareFile, SaveFirmwareRequest
from gen.busbar.maker.v1.widgets_pb import PersistedWidget, ReplaceWidgetsRequest

Members = dict[str, Json]
M = TypeVar("M", bound=Message[Any])

MOST_FIRMWARE = 1_048_576
"""Bytes of all files of a firmware."""
MOST_DESIGN = 2_097_152
"""Bytes of a design as JSON without spaces."""
DEEPEST_DESIGN = 64
MOST_CONFIG = 10_240
"""Bytes of a widget's config, and of its further members, as JSON without spaces."""
DEEPEST_CONFIG = 64
ENTRY = "main.ino"
LANGUAGE = "arduino"
DESIGNS = ("wiring", "pcb", "case")

_TEXTS = ("config", "others")
_WIDGET = {field.json_name: field for field in PersistedWidget.desc().fields if field.name not in _TEXTS}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of document.

    Attributes:
        least: Role that reading it takes.
        document: Returns of a stored content what clients see, patch and compare: always an object.
        content: Makes the content to store of a document and, for a design, the version of its shape. Refuses a bad one.
        empty: Content of one that was never saved.
        most_bytes: Bytes of a document that the canonical form may not exceed; None where `content` has counted already.
    """

    least: Role
    document: Callable[[Members], Members]
    content: Callable[[Json, int], Members]
    empty: Members
    most_bytes: int | None = None

    def check_size(self, content: Content, version: int) -> None:
        """Refuse a document that is too large in its canonical form.

        Raises:
            TooLarge: It is.
        """
        around = len(orjson.dumps({"data": None, "schemaVersion": version})) - len("null")
        if self.most_bytes is not None and content.size - around > self.most_bytes:
            raise TooLarge(f"data: must be at most {self.most_bytes} bytes of JSON", limit_bytes=self.most_bytes)


def firmware_content(request: SaveFirmwareRequest) -> Members:
    """Return a firmware as it is stored.

    Raises:
        InvalidArgument: There are no files, or both a source and files, or paths are not what they must be.
        TooLarge: The files hold too much.
    """
    entry = request.entry if request.has_field("entry") else ENTRY
    files = [(file.path, file.content) for file in request.files]
    if request.has_field("source"):
        if files:
            raise InvalidArgument.field("source", "cannot be given together with files")
        _check_entry(entry)
        files = [(entry, request.source)]
    if not files:
        raise InvalidArgument.field("source", "required, unless files are given")
    paths = {path for path, _ in files}
    if len(paths) < len(files):
        raise InvalidArgument.field("files", "must have unique paths")
    if entry not in paths:
        raise InvalidArgument.field("entry", "must be the path of one of the files")
    if sum(len(content.encode()) for _, content in files) > MOST_FIRMWARE:
        raise TooLarge(f"files: must hold at most {MOST_FIRMWARE} bytes together", limit_bytes=MOST_FIRMWARE)
    language = request.language if request.has_field("language") else LANGUAGE
    return {
        "language": language,
        "entry": entry,
        "files": [{"path": path, "content": content} for path, content in files],
    }


def _check_entry(entry: str) -> None:
    """Hold the entry to the rules of a file's path, since it is to be one."""
    try:
        validate(FirmwareFile(path=entry))
    except InvalidArgument as error:
        raise InvalidArgument.field("entry", error.violations[0].description) from error


def design_content(data: Json, version: int) -> Members:
    """Return a design as it is stored.

    Raises:
        InvalidArgument: It is no object, or nested too deeply.
    """
    if not isinstance(data, dict):
        raise InvalidArgument.field("data", "must be an object")
    if depth(data) > DEEPEST_DESIGN:
        raise InvalidArgument.field("data", f"must not be nested more than {DEEPEST_DESIGN} levels deep")
    return {"schemaVersion": version, "data": cast("Members", data)}


def widgets_content(widgets: Sequence[PersistedWidget]) -> Members:
    """Return a set of widgets as it is stored: with every member, so that a patch finds what a reader has seen.

    Raises:
        InvalidArgument: The config or the further members of a widget are no object, or too large.
    """
    return {"widgets": [_widget_members(widget, index) for index, widget in enumerate(widgets)]}


def widget_messages(content: Json) -> list[PersistedWidget]:
    """Return the widgets of a stored content or of a client's document.

    Raises:
        InvalidArgument: It is no list of widgets.
    """
    items = cast("Members", content).get("widgets") if isinstance(content, dict) else None
    if not isinstance(items, list):
        raise InvalidArgument.field("widgets", "must be a list")
    return [_widget(item, index) for index, item in enumerate(cast("list[Json]", items))]


def _widget(value: Json, index: int) -> PersistedWidget:
    if not isinstance(value, dict):
        raise _fault("must be an object", "widgets", index)
    members = cast("Members", value)
    known = {name: member for name, member in members.items() if name in _WIDGET}
    others = {name: member for name, member in members.items() if name not in _WIDGET and name != "config"}
    message = _read(PersistedWidget, known, "widgets", index)
    message.config = _dumps(members.get("config") or {}, "widgets", index, "config")
    message.others = _dumps(others, "widgets", index)
    return message


def _widget_members(widget: PersistedWidget, index: int) -> Members:
    config = _opaque(widget.config, index, "config")
    others = _opaque(widget.others, index, "others")
    members: Members = {
        name: getattr(widget, field.local_name) if not field.proto.proto3_optional or field in widget else None
        for name, field in _WIDGET.items()
    }
    defaults = {"width": 2, "height": 2, "pinType": "virtual"}
    members |= {name: value for name, value in defaults.items() if members[name] is None}
    members["id"] = widget.id or new_id("wgt-")
    return {**others, **members, "config": config}


def _opaque(text: str, index: int, name: str) -> Members:
    """Return the object that a text of a widget holds."""
    try:
        value: object = orjson.loads(text or "{}")
    except orjson.JSONDecodeError as error:
        raise _fault("must be JSON", "widgets", index, name) from error
    if not isinstance(value, dict):
        raise _fault("must be an object", "widgets", index, name)
    if depth(value) > DEEPEST_CONFIG:
        raise _fault(f"must not be nested more than {DEEPEST_CONFIG} levels deep", "widgets", index, name)
    if len(orjson.dumps(value)) > MOST_CONFIG:
        raise _fault(f"must be at most {MOST_CONFIG} bytes of JSON", "widgets", index, name)
    return cast("Members", value)


def _dumps(value: Json, *path: str | int) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise _fault("must not be nested so deeply", *path) from error


def _read(kind: type[M], members: Members, *path: str | int) -> M:
    """Make a message of a JSON object. What cannot be read is named below a path; no rule is checked."""
    try:
        return message_from_json_value(kind, members, ignore_unknown_fields=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        if len(members) > 1:
            # The codec does not say which member it means, so each is tried alone.
            for name, member in members.items():
                _read(kind, {name: member}, *path)
        raise _fault("is not what it must be", *path, *members) from error


def _fault(description: str, *path: str | int) -> InvalidArgument:
    return invalid((FieldViolation(path, description),))


def _firmware_of(document: Json, _version: int) -> Members:
    request = _read(SaveFirmwareRequest, cast("Members", document))
    validate(request)
    return firmware_content(request)


def _widgets_of(document: Json, _version: int) -> Members:
    widgets = widget_messages(document)
    validate(ReplaceWidgetsRequest(widgets=widgets))
    return widgets_content(widgets)


def _same(content: Members) -> Members:
    return content


def _data(content: Members) -> Members:
    return content["data"]


_DESIGN = Kind(Role.NONE, _data, design_content, {"schemaVersion": 1, "data": {}}, MOST_DESIGN)
KINDS = {
    "firmware": Kind(Role.VIEWER, _same, _firmware_of, {}),
    **dict.fromkeys(DESIGNS, _DESIGN),
    "widgets": Kind(Role.NONE, _same, _widgets_of, {"widgets": []}),
}
"""Kinds of documents by name."""
