"""Tools as agents meet them: what is listed, what a call answers, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.mcp.fakes import READER, Agent, FakeKeys, FakePins

SNAPSHOT = Path(__file__).parent / "tools.json"
ALL = ["plynx_list_boards", "plynx_read_pin", "plynx_write_pin"]


async def test_the_tools_are_those_of_the_snapshot(agent: Agent) -> None:
    """After a wanted change, write the names and schemas that the endpoint lists to tools.json and read the difference."""
    listed = (await agent.legacy("tools/list")).json()["result"]["tools"]
    assert [_undescribed(tool) for tool in listed] == json.loads(SNAPSHOT.read_text())


async def test_every_tool_and_every_argument_is_described(agent: Agent) -> None:
    for tool in (await agent.legacy("tools/list")).json()["result"]["tools"]:
        assert tool["description"].endswith(".")
        assert tool["title"] == tool["annotations"]["title"]
        assert all(member["description"] for member in tool["inputSchema"]["properties"].values())


async def test_schemas_are_sound_and_closed(agent: Agent) -> None:
    for tool in (await agent.legacy("tools/list")).json()["result"]["tools"]:
        for schema in (tool["inputSchema"], tool["outputSchema"]):
            Draft202012Validator.check_schema(schema)
            assert (schema["type"], schema["additionalProperties"]) == ("object", False)
            assert not {"anyOf", "oneOf", "allOf"} & set(schema)
        assert all("type" in member for member in tool["inputSchema"]["properties"].values())


async def test_a_key_sees_only_what_its_scopes_permit(agent: Agent, keys: FakeKeys) -> None:
    keys.issue("plnx_boards", CredentialKind.AGENT_KEY, "boards:read", "pins:write")
    assert await agent.tools() == ALL
    assert await agent.tools(key=READER) == ["plynx_read_pin"]
    assert await agent.tools(key="plnx_boards") == ["plynx_list_boards", "plynx_write_pin"]


@pytest.mark.parametrize(
    ("toolsets", "names"),
    [("boards", ALL), ("maker", ALL), ("nothing,boards", ALL), ("nothing", []), ("", ALL), ("%20boards%20,", ALL)],
)
async def test_a_caller_may_choose_toolsets(agent: Agent, toolsets: str, names: list[str]) -> None:
    assert await agent.tools(path=f"/mcp?toolsets={toolsets}") == names


async def test_a_tool_outside_the_chosen_toolsets_is_unknown(agent: Agent) -> None:
    answer = await agent.legacy("tools/call", {"name": "plynx_list_boards"}, path="/mcp?toolsets=projects")
    assert answer.json()["error"]["code"] == -32602


async def test_a_call_without_its_scope_is_refused_before_its_arguments(agent: Agent) -> None:
    refusal = await agent.refusal("plynx_write_pin", key=READER, nonsense=True)
    assert refusal == "insufficient scope: pins:write required"


async def test_an_answer_is_shown_twice_and_fits_its_schema(agent: Agent) -> None:
    result = await agent.call("plynx_write_pin", boardId="b1", pin=4, value=21.5)
    listed = (await agent.legacy("tools/list")).json()["result"]["tools"]
    assert result["isError"] is False
    assert result["content"][0]["type"] == "text"
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    for tool, answer in [(listed[2], result["structuredContent"]), (listed[0], await _structured(agent, ALL[0]))]:
        Draft202012Validator(tool["outputSchema"]).validate(answer)


async def test_a_written_value_is_read_back(agent: Agent, pins: FakePins) -> None:
    await agent.call("plynx_write_pin", boardId="b1", pin=4, value=21.5)
    pin = await _structured(agent, "plynx_read_pin", boardId="b1", pin=4)
    assert (pin["value"], pin["pinIndex"], pin["updatedAt"]) == (21.5, 4, "2023-11-14T22:13:20.005Z")
    assert pins.doors == ["mcp"]


async def test_absent_members_are_null(agent: Agent) -> None:
    pin = await _structured(agent, "plynx_read_pin", boardId="b1", pin=9)
    assert (pin["value"], pin["updatedAt"], pin["updatedBy"], pin["label"]) == (None, None, None, "")


async def test_an_answer_shows_only_what_the_tool_promises(agent: Agent) -> None:
    answer = await _structured(agent, "plynx_list_boards")
    assert answer == {
        "boards": [
            {
                "id": "b1",
                "name": "Bench",
                "boardType": "esp32",
                "status": "never",
                "lastSeenAt": None,
                "firmwareVersion": None,
                "projectIds": [],
            }
        ]
    }


@pytest.mark.parametrize("pin", [7, 7.0, "7", "07", "007", "V7", "v07"])
async def test_a_pin_may_be_named_in_every_customary_way(agent: Agent, pin: Any) -> None:
    assert (await _structured(agent, "plynx_read_pin", boardId="b1", pin=pin))["pinIndex"] == 7


@pytest.mark.parametrize("value", ["on", "", 0, -2.5, True, False])
async def test_a_value_may_be_text_number_or_truth(agent: Agent, value: Any) -> None:
    assert (await _structured(agent, "plynx_write_pin", boardId="b1", pin=1, value=value))["value"] == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pin": 1}, "boardId: required"),
        ({"boardId": "b1"}, "pin: required"),
        ({}, "boardId: required"),
        ({"boardId": "b1", "pin": 1, "colour": "red"}, "colour: unknown argument"),
        ({"boardId": "b1", "pin": 1, "pinIndex": 1}, "pinIndex: unknown argument"),
        ({"boardId": 5, "pin": 1}, "boardId: must be a string"),
        ({"boardId": None, "pin": 1}, "boardId: must be a string"),
        ({"boardId": "b1", "pin": True}, "pin: must be an integer or a string"),
        ({"boardId": "b1", "pin": 1.5}, "pin: must be an integer or a string"),
        ({"boardId": "b1", "pin": "W7"}, "pin: must be an integer"),
        ({"boardId": "b1", "pin": "VV7"}, "pin: must be an integer"),
        ({"boardId": "b1", "pin": "\u0667"}, "pin: must be an integer"),
        ({"boardId": "b1", "pin": 99999999999}, "pin: must be an integer"),
    ],
)
async def test_a_wrong_argument_is_named(agent: Agent, arguments: dict[str, Any], message: str) -> None:
    assert await agent.refusal("plynx_read_pin", **arguments) == message


@pytest.mark.parametrize("pin", [256, -1, "V300", "999"])
async def test_a_broken_rule_is_told_in_the_words_of_the_rule(agent: Agent, pin: Any) -> None:
    refusal = await agent.refusal("plynx_read_pin", boardId="b1", pin=pin)
    assert refusal == "pin: must be greater than or equal to 0 and less than or equal to 255"


@pytest.mark.parametrize("value", [None, [], {"a": 1}, [[[]]]])
async def test_a_value_of_another_kind_is_refused(agent: Agent, value: Any) -> None:
    refusal = await agent.refusal("plynx_write_pin", boardId="b1", pin=1, value=value)
    assert refusal == "value: must be a string, a number or a boolean"


async def test_a_value_that_is_too_long_is_refused_by_name(agent: Agent) -> None:
    refusal = await agent.refusal("plynx_write_pin", boardId="b1", pin=1, value="x" * 1025)
    assert refusal.startswith("value: must be null, a boolean, a finite number or a string of at most 1024 characters")


async def test_a_hidden_field_is_no_argument(agent: Agent) -> None:
    assert await agent.refusal("plynx_list_boards", limit=1) == "limit: unknown argument"


async def test_a_refusal_of_the_service_is_told_as_it_is(agent: Agent) -> None:
    assert await agent.refusal("plynx_read_pin", boardId="someone-elses", pin=1) == "board not found"


async def test_an_unexpected_failure_tells_nothing(agent: Agent) -> None:
    assert await agent.refusal("plynx_write_pin", boardId="b1", pin=255, value=1) == "internal error"


async def test_a_key_that_dies_during_a_call_is_told_so(agent: Agent, keys: FakeKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, asked = keys.holders[READER], 0

    async def once(credential: str) -> Any:
        nonlocal asked
        asked += 1
        return holder if asked == 1 else None

    monkeypatch.setattr(keys, "authenticate", once)
    assert await agent.refusal("plynx_read_pin", key=READER, boardId="b1", pin=1) == "invalid or expired credential"


async def test_revisions_without_structured_answers_still_get_the_text(agent: Agent) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "plynx_list_boards"}}
    answer = await agent.post(body, {"MCP-Protocol-Version": "2024-11-05"})
    assert json.loads(answer.json()["result"]["content"][0]["text"])["boards"][0]["id"] == "b1"


@pytest.mark.parametrize("depth", [120, 900])
async def test_arguments_without_end_are_refused(agent: Agent, depth: int) -> None:
    value = json.loads("[" * depth + "]" * depth)
    refusal = await agent.refusal("plynx_write_pin", boardId="b1", pin=1, value=value)
    assert refusal in {"value: must be a string, a number or a boolean", "the arguments are nested too deeply"}


def _undescribed(part: Any) -> Any:
    if isinstance(part, list):
        return [_undescribed(entry) for entry in part]
    if isinstance(part, dict):
        return {name: _undescribed(member) for name, member in part.items() if name != "description"}
    return part


async def _structured(agent: Agent, tool: str, **arguments: Any) -> dict[str, Any]:
    return (await agent.call(tool, **arguments))["structuredContent"]
