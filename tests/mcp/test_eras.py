"""Both eras of the protocol on one path: which one a request belongs to, and what each answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.mcp.fakes import META, MODERN, Agent, request

LEGACY = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
CLIENT = {"name": "test", "version": "1"}
CAPABILITIES = {"tools": {"listChanged": False}}


def code(answer: httpx.Response) -> tuple[int, int]:
    """Return the status and the JSON-RPC code of an error."""
    return answer.status_code, answer.json()["error"]["code"]


def handshake(version: str) -> dict[str, Any]:
    """Return the parameters of initialize."""
    return {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"jsonrpc":"2.0","id":NaN}', b'"\\ud800"', b"[" * 5000])
async def test_what_is_not_json_is_a_parse_error(agent: Agent, body: bytes) -> None:
    answer = await agent.post(body)
    assert code(answer) == (400, -32700)
    assert answer.json()["id"] is None


@pytest.mark.parametrize(
    "body",
    [
        [request("ping")],
        [],
        "ping",
        7,
        b"null",
        {},
        {"id": 1},
        {"jsonrpc": "1.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": None, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1.5, "method": "ping"},
        {"jsonrpc": "2.0", "id": True, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1, "method": 5},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "result": {}},
    ],
)
@pytest.mark.parametrize("headers", [{}, {"MCP-Protocol-Version": MODERN}])
async def test_a_batch_or_a_body_that_is_no_request_is_invalid(agent: Agent, body: Any, headers: dict[str, str | None]) -> None:
    answer = await agent.post(body, headers)
    assert code(answer) == (400, -32600)
    assert answer.json()["id"] is None


@pytest.mark.parametrize("version", LEGACY)
async def test_a_handshake_in_a_known_revision_keeps_it(agent: Agent, version: str) -> None:
    answer = await agent.legacy("initialize", handshake(version))
    result = answer.json()["result"]
    assert (answer.status_code, result["protocolVersion"]) == (200, version)
    assert (result["capabilities"], result["serverInfo"]["name"]) == (CAPABILITIES, "busbar")
    assert "mcp-session-id" not in answer.headers


@pytest.mark.parametrize("version", ["1999-01-01", "2030-01-01", MODERN, ""])
async def test_a_handshake_in_an_unknown_revision_gets_the_newest_of_its_era(agent: Agent, version: str) -> None:
    assert (await agent.legacy("initialize", handshake(version))).json()["result"]["protocolVersion"] == "2025-11-25"


async def test_a_handshake_without_parameters_is_refused(agent: Agent) -> None:
    assert code(await agent.legacy("initialize")) == (200, -32602)


@pytest.mark.parametrize("method", ["notifications/initialized", "notifications/cancelled", "notifications/else"])
@pytest.mark.parametrize("version", [None, "2025-06-18", MODERN])
async def test_a_notification_is_taken_without_a_word(agent: Agent, method: str, version: str | None) -> None:
    answer = await agent.post({"jsonrpc": "2.0", "method": method}, {"MCP-Protocol-Version": version})
    assert (answer.status_code, answer.content) == (202, b"")


async def test_a_notification_of_an_unknown_revision_is_refused(agent: Agent) -> None:
    body = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert code(await agent.post(body, {"MCP-Protocol-Version": "1999-01-01"})) == (400, -32022)


@pytest.mark.parametrize("request_id", [1, "one", 0, ""])
async def test_the_answer_repeats_the_id_of_the_request(agent: Agent, request_id: Any) -> None:
    assert (await agent.post(request("ping", request_id=request_id))).json() == {
        "jsonrpc": "2.0",
        "id": request_id,
        "result": {},
    }


@pytest.mark.parametrize("version", [None, *LEGACY])
async def test_legacy_requests_need_no_header(agent: Agent, version: str | None) -> None:
    answer = await agent.post(request("tools/list"), {"MCP-Protocol-Version": version, "Mcp-Session-Id": "from-elsewhere"})
    result = answer.json()["result"]
    assert answer.status_code == 200
    assert "resultType" not in result
    assert "ttlMs" not in result


@pytest.mark.parametrize("method", ["server/discover", "prompts/list", "prompts/get", "resources/read", "nothing", ""])
async def test_an_unknown_method_is_200_in_the_legacy_era(agent: Agent, method: str) -> None:
    assert code(await agent.legacy(method)) == (200, -32601)


@pytest.mark.parametrize(
    "method",
    [
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/list",
        "prompts/get",
        "completion/complete",
        "subscriptions/listen",
        "nothing",
    ],
)
async def test_an_unknown_or_removed_method_is_404_in_the_modern_era(agent: Agent, method: str) -> None:
    assert code(await agent.modern(method)) == (404, -32601)


async def test_a_modern_handshake_does_not_exist(agent: Agent) -> None:
    answer = await agent.post(request("initialize", handshake(MODERN)), {"MCP-Protocol-Version": MODERN})
    assert code(answer) == (404, -32601)
    assert code(await agent.modern("initialize")) == (404, -32601)


async def test_discovery_tells_what_a_handshake_would(agent: Agent) -> None:
    answer = await agent.modern("server/discover")
    result = answer.json()["result"]
    assert answer.status_code == 200
    assert (result["supportedVersions"], result["capabilities"]) == ([MODERN], CAPABILITIES)
    assert (result["resultType"], result["cacheScope"]) == ("complete", "private")
    assert result["ttlMs"] >= 0
    assert result["_meta"][f"{META}/serverInfo"]["name"] == "busbar"


async def test_modern_results_say_that_they_are_complete(agent: Agent) -> None:
    listed = (await agent.modern("tools/list")).json()["result"]
    called = (await agent.modern("tools/call", {"name": "plynx_list_boards"})).json()["result"]
    assert (listed["resultType"], listed["ttlMs"], listed["cacheScope"]) == ("complete", 60_000, "private")
    assert (called["resultType"], called["isError"]) == ("complete", False)
    assert f"{META}/serverInfo" in listed["_meta"]


@pytest.mark.parametrize("missing", ["mcp_protocol_version", "mcp_method", "mcp_name"])
async def test_a_missing_modern_header_is_a_mismatch(agent: Agent, missing: str) -> None:
    answer = await agent.modern("tools/call", {"name": "plynx_list_boards"}, **{missing: None})
    assert code(answer) == (400, -32020)
    assert answer.json()["id"] == 1


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("mcp_protocol_version", "2025-11-25"),
        ("mcp_protocol_version", "2030-01-01"),
        ("mcp_method", "tools/list"),
        ("mcp_method", "Tools/Call"),
        ("mcp_name", "plynx_read_pin"),
        ("mcp_name", "=?base64?not base64?="),
    ],
)
async def test_a_modern_header_that_differs_from_the_body_is_a_mismatch(agent: Agent, header: str, value: str) -> None:
    answer = await agent.modern("tools/call", {"name": "plynx_list_boards"}, **{header: value})
    assert code(answer) == (400, -32020)


@pytest.mark.parametrize("name", ["  plynx_list_boards ", "=?base64?cGx5bnhfbGlzdF9ib2FyZHM=?="])
async def test_blanks_and_encoding_of_a_header_do_not_count(agent: Agent, name: str) -> None:
    answer = await agent.modern("tools/call", {"name": "plynx_list_boards"}, mcp_name=name)
    assert answer.status_code == 200


async def test_a_header_that_comes_twice_is_a_mismatch(agent: Agent) -> None:
    body = request("tools/list", {"_meta": {f"{META}/protocolVersion": MODERN, f"{META}/clientCapabilities": {}}})
    headers = [("MCP-Protocol-Version", MODERN), ("Mcp-Method", "tools/list"), ("Mcp-Method", "tools/list")]
    answer = await agent.http.post("/mcp", json=body, headers=[("Authorization", "Bearer plnx_everything"), *headers])
    assert code(answer) == (400, -32020)


@pytest.mark.parametrize("meta", [None, {}, {f"{META}/protocolVersion": MODERN}, {f"{META}/clientCapabilities": {}}])
async def test_a_modern_request_without_its_envelope_has_invalid_parameters(agent: Agent, meta: Any) -> None:
    params = {} if meta is None else {"_meta": meta}
    headers: dict[str, str | None] = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list"}
    answer = await agent.post(request("tools/list", params), headers)
    assert code(answer) == (400, -32602)


async def test_the_body_alone_makes_a_request_modern(agent: Agent) -> None:
    envelope = {f"{META}/protocolVersion": MODERN, f"{META}/clientCapabilities": {}}
    assert code(await agent.legacy("tools/list", {"_meta": envelope})) == (400, -32020)


@pytest.mark.parametrize("version", ["1999-01-01", "2030-01-01", "latest"])
async def test_an_unsupported_revision_is_told_which_are_supported(agent: Agent, version: str) -> None:
    envelope = {f"{META}/protocolVersion": version, f"{META}/clientCapabilities": {}}
    by_header = await agent.post(request("tools/list"), {"MCP-Protocol-Version": version})
    by_both = await agent.post(request("tools/list", {"_meta": envelope}), {"MCP-Protocol-Version": version})
    for answer in (by_header, by_both):
        assert code(answer) == (400, -32022)
        assert answer.json()["error"]["data"] == {"supported": [MODERN], "requested": version}


async def test_header_and_body_must_name_the_same_legacy_revision(agent: Agent) -> None:
    params = {"_meta": {f"{META}/protocolVersion": "2025-06-18"}}
    assert code(await agent.post(request("ping", params), {"MCP-Protocol-Version": "2025-11-25"})) == (400, -32020)
    assert (await agent.post(request("ping", params), {"MCP-Protocol-Version": "2025-06-18"})).status_code == 200


async def test_a_revision_that_is_no_text_has_invalid_parameters(agent: Agent) -> None:
    assert code(await agent.legacy("ping", {"_meta": {f"{META}/protocolVersion": 20260728}})) == (400, -32602)


async def test_a_modern_session_header_is_ignored_and_none_is_made(agent: Agent) -> None:
    answer = await agent.modern("tools/list", mcp_session_id="old")
    assert answer.status_code == 200
    assert "mcp-session-id" not in answer.headers


@pytest.mark.parametrize(("era", "status"), [("legacy", 200), ("modern", 400)])
async def test_an_unknown_tool_has_invalid_parameters(agent: Agent, era: str, status: int) -> None:
    answer = await getattr(agent, era)("tools/call", {"name": "plynx_nothing", "arguments": {}})
    assert code(answer) == (status, -32602)
    assert "plynx_nothing" in answer.json()["error"]["message"]


@pytest.mark.parametrize("params", [{}, {"name": 5}, {"name": "plynx_list_boards", "arguments": []}])
async def test_a_call_that_is_no_call_has_invalid_parameters(agent: Agent, params: dict[str, Any]) -> None:
    assert code(await agent.legacy("tools/call", params)) == (200, -32602)


async def test_a_failure_inside_the_protocol_tells_nothing(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("the secret of the code")

    monkeypatch.setattr("adapters.mcp.tools.AgentTool.call", broken)
    answer = await agent.legacy("tools/call", {"name": "plynx_list_boards"})
    assert code(answer) == (200, -32603)
    assert "secret" not in answer.text
