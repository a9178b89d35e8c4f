"""Arguments and schemas that no present tool has: lists, choices, enums, times, partial updates, and wrong options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from protobuf import Message
from protobuf.wkt.google.protobuf.descriptor_pb import DescriptorProto

from adapters.mcp.arguments import Arguments
from adapters.mcp.schemas import Schema, SchemaWriter, members
from adapters.mcp.tools import AgentTool, Toolbox
from core.kernel.call import Call
from core.kernel.errors import FieldViolation, InvalidArgument, NotFound
from core.kernel.pipeline import Platform
from core.kernel.rpc import BindingError, Rpc
from core.kernel.validation import invalid
from gen.busbar.api.v1.options_pb import Access, CredentialKind, Limit, Tool
from gen.busbar.maker.v1.boards_pb import CreateBoardRequest
from gen.busbar.maker.v1.pins_pb import BoardStatus, ConnectPinsResponse, PinWriteMany
from gen.busbar.telemetry.v1.ingest_pb import Column, Point
from tests.mcp.fakes import KEY, FakeBoards, FakeKeys, FakePins, rpcs


@pytest.fixture
def update(pins: FakePins, boards: FakeBoards) -> Rpc:
    """An rpc that changes the fields that are named."""
    return next(rpc for rpc in rpcs(pins, boards) if rpc.method.name == "UpdateBoard")


def schema_of(message: type[Message[Any]], *, answers: bool = False) -> Schema:
    """Return the schema of a whole message."""
    offered = members(message.desc(), {}, answers=answers)
    schema = SchemaWriter(answers=answers).object(message.desc(), offered, {})
    Draft202012Validator.check_schema(schema)
    return schema


def taking(rpc: Rpc, message: type[Message[Any]]) -> Arguments:
    """Return the arguments of a tool that takes a message."""
    return Arguments(replace(rpc, request=message, http=()), Tool(name="t"))


def test_lists_carry_their_bounds_and_the_schema_of_their_entries() -> None:
    pins = schema_of(PinWriteMany)["properties"]["pins"]
    assert (pins["type"], pins["minItems"], pins["maxItems"]) == ("array", 1, 64)
    assert pins["items"]["properties"]["pinIndex"]["type"] == ["integer", "string"]
    assert pins["items"]["required"] == ["value"]


def test_rules_of_texts_and_closed_sets_are_carried() -> None:
    schema = schema_of(CreateBoardRequest)
    name, connection = schema["properties"]["name"], schema["properties"]["connectionType"]
    assert (name["minLength"], name["maxLength"], schema["required"]) == (1, 80, ["name"])
    assert connection["enum"] == ["wifi", "ethernet", "gsm", "usb", "ble"]


def test_an_enum_is_offered_by_name_without_its_unspecified_value() -> None:
    assert schema_of(Limit)["properties"]["per"]["enum"] == ["PER_CREDENTIAL", "PER_ADDRESS", "PER_FIELD"]


def test_a_choice_is_not_a_union_but_members_that_may_be_missing() -> None:
    schema = schema_of(ConnectPinsResponse, answers=True)
    assert "required" not in schema
    assert schema["properties"]["pong"] | {"description": ""} == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
        "description": "",
    }


def test_numbers_beyond_a_double_are_texts_in_answers() -> None:
    assert schema_of(Column, answers=True)["properties"]["timestampsUs"]["items"]["type"] == "string"
    assert schema_of(Column)["properties"]["timestampsUs"]["items"]["type"] == ["integer", "string"]


def test_maps_objects_and_times_have_types() -> None:
    assert schema_of(Point)["properties"]["tags"]["type"] == "object"
    assert schema_of(Tool)["properties"]["arguments"]["additionalProperties"] == {"type": "string"}
    at = schema_of(BoardStatus, answers=True)["properties"]["at"]
    assert (at["type"], at["format"]) == (["string", "null"], "date-time")


def test_a_message_within_itself_ends_in_any_object() -> None:
    nested = schema_of(DescriptorProto)["properties"]["nestedType"]
    assert nested["items"] == {"type": "object"}


def test_a_partial_update_changes_what_is_given(update: Rpc) -> None:
    arguments = Arguments(update, Tool(name="t"))
    request: Any = arguments.decode({"boardId": "b1", "boardType": "esp32", "name": ""})
    assert "updateMask" not in arguments.schema["properties"]
    assert sorted(request.update_mask.paths) == ["board_type", "name"]
    assert (request.board_id, request.board_type) == ("b1", "esp32")


def test_letters_before_integers_are_understood_at_every_depth(update: Rpc) -> None:
    arguments = taking(update, PinWriteMany)
    request: Any = arguments.decode({"pins": [{"pinIndex": "V7", "value": 1}, {"pinIndex": 8, "value": "V9"}]})
    assert [pin.pin_index for pin in request.pins] == [7, 8]
    with pytest.raises(InvalidArgument) as caught:
        arguments.decode({"pins": [{"value": 1}, {"pinIndex": "X", "value": 1}]})
    assert caught.value.message == "pins[1].pinIndex: must be an integer"


@pytest.mark.parametrize(
    ("message", "values", "sentence"),
    [
        (PinWriteMany, {"pins": [{"pinIndex": 1}]}, "pins[0].value: required"),
        (PinWriteMany, {"pins": [{"value": 1, "x": 1}]}, "pins[0].x: unknown argument"),
        (PinWriteMany, {"pins": {}}, "pins: must be a list"),
        (BoardStatus, {"boardId": "b1", "at": "noon"}, "at: must be a time such as 2026-01-31T12:00:00Z"),
        (Limit, {"requests": 2**40}, "requests: must be an integer"),
        (PinWriteMany, {"pins": [{"value": 1}, {"value": 1, "pinIndex": 2**40}]}, "pins[1].pinIndex: must be an integer"),
        (Limit, {"per": "PER_MOON"}, "per: must be one of PER_UNSPECIFIED, PER_CREDENTIAL, PER_ADDRESS, PER_FIELD"),
        (ConnectPinsResponse, {"pong": {}, "ack": {}}, "pong: cannot be given together with ack"),
    ],
)
def test_what_cannot_be_read_is_named(update: Rpc, message: type[Message[Any]], values: Any, sentence: str) -> None:
    arguments = taking(update, message)
    with pytest.raises(InvalidArgument) as caught:
        arguments.decode(values)
    assert arguments.explain(caught.value) == sentence


def test_fields_in_refusals_are_spelled_as_arguments(update: Rpc) -> None:
    tool = Tool(name="t", arguments={"board_type": "kind"})
    arguments = Arguments(update, tool)
    nested = taking(update, PinWriteMany)
    assert arguments.explain(InvalidArgument.field("board_type", "too odd")) == "kind: too odd"
    assert arguments.explain(InvalidArgument.field("connection_type", "too odd")) == "connectionType: too odd"
    assert nested.explain(invalid((FieldViolation(("pins", 3, "pin_index"), "too odd"),))) == "pins[3].pinIndex: too odd"
    assert arguments.explain(invalid((FieldViolation((), "nothing to change"),))) == "nothing to change"
    assert arguments.explain(NotFound("board_type is unknown")) == "board_type is unknown"


@pytest.mark.parametrize(
    "tool",
    [
        Tool(name="t", arguments={"nothing": "x"}),
        Tool(name="t", hidden=["nothing"]),
        Tool(name="t", output=["nothing"]),
        Tool(name="t", output=["name.nothing"]),
        Tool(name="t", output=["board_type"]),
    ],
)
def test_an_option_that_names_what_is_not_there_stops_the_server(update: Rpc, tool: Tool) -> None:
    with pytest.raises(BindingError, match="BoardService/UpdateBoard"):
        AgentTool(update, tool)


def test_a_stream_cannot_be_a_tool(update: Rpc) -> None:
    with pytest.raises(BindingError, match="streams"):
        AgentTool(replace(update, server_streams=True), Tool(name="t"))


def test_two_rpcs_cannot_be_the_same_tool(update: Rpc, keys: FakeKeys) -> None:
    same = replace(update, tool=Tool(name="t"))
    with pytest.raises(BindingError, match="two rpcs are the tool t"):
        Toolbox(Platform([same, replace(same)], keys))


async def test_a_tool_for_administrators_is_listed_for_them_only(update: Rpc, keys: FakeKeys) -> None:
    admin = replace(update, tool=Tool(name="t"), access=Access(level=Access.Level.ADMIN))
    platform = Platform([admin], keys)
    box, holder = Toolbox(platform), keys.holders[KEY]
    assert [tool.name for tool in box.view(holder, frozenset()).listed] == ["t"]
    keys.holders[KEY] = viewer = replace(holder, role="viewer")
    view = box.view(viewer, frozenset())
    assert view.listed == ()
    outcome = await view.chosen["t"].call(platform, {}, Call(credential=KEY, door="mcp"))
    assert (outcome.text, outcome.structured) == ("admin role required", None)


def test_a_tool_for_other_credentials_is_not_listed(update: Rpc, keys: FakeKeys) -> None:
    access = Access(kinds=[CredentialKind.SESSION])
    box = Toolbox(Platform([replace(update, tool=Tool(name="t"), access=access)], keys))
    assert box.view(keys.holders[KEY], frozenset()).listed == ()


def test_an_open_tool_is_listed_for_everyone(update: Rpc, keys: FakeKeys) -> None:
    access = Access(level=Access.Level.PUBLIC, scope="boards:write")
    box = Toolbox(Platform([replace(update, tool=Tool(name="t"), access=access)], keys))
    bare = replace(keys.holders[KEY], scopes=frozenset[str]())
    assert [tool.name for tool in box.view(bare, frozenset()).listed] == ["t"]
