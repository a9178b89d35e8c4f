"""The MCP endpoint of the whole server over plain HTTP: what each revision of the protocol asks of a server, topic by topic."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.mcp.fakes import META, MODERN, Agent, request

LEGACY = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
CLIENT = {"name": "test", "version": "1"}
PATHS = pytest.mark.parametrize("path", ["/api/mcp/rpc", "/mcp"])
BOARDS = "plynx_list_boards"


@pytest.fixture
async def agent(busbar: Running, alice: Person, bench: Any) -> Agent:
    """An agent of Alice's with every scope."""
    return Agent(busbar.http(), key=await busbar.key(alice, CredentialKind.AGENT_KEY))


def failure(answer: httpx.Response) -> tuple[int, int]:
    """Return the status and the code of a JSON-RPC error, whose own codes stay out of the range of the protocol."""
    error = answer.json()["error"]
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"jsonrpc", "id", "error"}
    return answer.status_code, error["code"]


def result(answer: httpx.Response) -> dict[str, Any]:
    """Return a result."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
    assert set(answer.json()) == {"jsonrpc", "id", "result"}
    assert "mcp-session-id" not in answer.headers
    return answer.json()["result"]


# Opening and discovery


@pytest.mark.parametrize("version", LEGACY)
@PATHS
async def test_a_legacy_session_opens_by_handshake_and_then_works(agent: Agent, version: str, path: str) -> None:
    agent.path = path
    opened = result(await agent.legacy("initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT}))
    assert opened["protocolVersion"] == version
    assert opened["capabilities"] == {"tools": {"listChanged": False}}
    assert set(opened["serverInfo"]) >= {"name", "version"}
    header: dict[str, str | None] = {"MCP-Protocol-Version": version}
    for method in ("notifications/initialized", "notifications/cancelled"):
        noted = await agent.post({"jsonrpc": "2.0", "method": method, "params": {"requestId": 1}}, header)
        assert (noted.status_code, noted.content) == (202, b"")
    assert result(await agent.post(request("ping"), header)) == {}
    listed = result(await agent.post(request("tools/list"), header))
    assert set(listed) == {"tools"}
    assert [tool["name"] for tool in listed["tools"]] == sorted(tool["name"] for tool in listed["tools"])


@pytest.mark.parametrize("version", ["2030-01-01", "1.0", ""])
async def test_a_handshake_in_an_unknown_revision_is_answered_in_the_newest_of_its_era(agent: Agent, version: str) -> None:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT}
    assert result(await agent.legacy("initialize", params))["protocolVersion"] == "2025-11-25"


@PATHS
async def test_a_modern_client_discovers_lists_and_calls_without_a_handshake(agent: Agent, path: str) -> None:
    agent.path = path
    found = result(await agent.modern("server/discover"))
    assert found["supportedVersions"] == [MODERN]
    assert found["capabilities"] == {"tools": {"listChanged": False}}
    listed, called = result(await agent.modern("tools/list")), result(await agent.modern("tools/call", {"name": BOARDS}))
    assert [found["resultType"], listed["resultType"], called["resultType"]] == ["complete"] * 3
    assert (listed["ttlMs"], listed["cacheScope"], found["cacheScope"], found["ttlMs"] >= 0) == (
        60_000,
        "private",
        "private",
        True,
    )
    assert all(set(one["_meta"][f"{META}/serverInfo"]) >= {"name", "version"} for one in (found, listed, called))
    assert listed["tools"] == result(await agent.legacy("tools/list"))["tools"]


async def test_an_envelope_without_its_parts_has_invalid_parameters(agent: Agent) -> None:
    headers: dict[str, str | None] = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list"}
    for meta in ({f"{META}/clientCapabilities": {}}, {f"{META}/protocolVersion": MODERN}, {}):
        assert failure(await agent.post(request("tools/list", {"_meta": meta}), headers)) == (400, -32602)
    assert failure(await agent.post(request("tools/list"), headers)) == (400, -32602)


# Headers and versions


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("mcp_protocol_version", None),
        ("mcp_protocol_version", "2025-11-25"),
        ("mcp_method", None),
        ("mcp_method", "tools/list"),
        ("mcp_method", "TOOLS/CALL"),
        ("mcp_name", None),
        ("mcp_name", "plynx_read_pin"),
        ("mcp_name", "PLYNX_LIST_BOARDS"),
        ("mcp_name", "=?base64?%%%?="),
    ],
)
async def test_a_modern_header_that_is_missing_or_differs_is_a_mismatch(agent: Agent, header: str, value: str | None) -> None:
    assert failure(await agent.modern("tools/call", {"name": BOARDS}, **{header: value})) == (400, -32020)


async def test_how_names_of_headers_are_spelled_and_how_values_are_encoded_does_not_matter(agent: Agent) -> None:
    for name in (BOARDS, "=?base64?cGx5bnhfbGlzdF9ib2FyZHM=?="):
        sent = {"mcp_protocol_version": None, "MCP_PROTOCOL_VERSION": MODERN, "mcp_name": None, "MCP_NAME": name}
        assert result(await agent.modern("tools/call", {"name": BOARDS}, **sent))["isError"] is False


async def test_a_revision_that_nobody_knows_is_refused_with_those_that_are_served(agent: Agent) -> None:
    envelope = {f"{META}/protocolVersion": "1999-01-01", f"{META}/clientCapabilities": {}}
    answer = await agent.post(request("tools/list", {"_meta": envelope}), {"MCP-Protocol-Version": "1999-01-01"})
    assert failure(answer) == (400, -32022)
    assert answer.json()["error"]["data"] == {"supported": [MODERN], "requested": "1999-01-01"}
    assert (await agent.post(request("ping"), {"MCP-Protocol-Version": "nonsense"})).status_code == 400


async def test_a_request_that_names_no_revision_is_of_the_older_era(agent: Agent) -> None:
    assert result(await agent.post(request("ping"))) == {}
    assert "resultType" not in result(await agent.post(request("tools/list")))


async def test_sessions_are_never_made_and_their_header_is_ignored(agent: Agent) -> None:
    assert result(await agent.post(request("ping"), {"Mcp-Session-Id": "someone-elses"})) == {}
    assert result(await agent.modern("tools/list", mcp_session_id="someone-elses"))["tools"]


# Methods


GONE = ["ping", "logging/setLevel", "resources/subscribe"]
NEVER = ["nothing", "prompts/list", "prompts/get", "resources/list", "resources/read", "completion/complete"]


@pytest.mark.parametrize("method", NEVER)
async def test_a_method_that_is_not_served_is_unknown_in_both_eras(agent: Agent, method: str) -> None:
    assert failure(await agent.legacy(method)) == (200, -32601)
    assert failure(await agent.modern(method)) == (404, -32601)


@pytest.mark.parametrize("method", [*GONE, "initialize", "subscriptions/listen"])
async def test_what_the_newer_era_removed_or_does_not_need_is_404_there(agent: Agent, method: str) -> None:
    assert failure(await agent.modern(method)) == (404, -32601)


@PATHS
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"])
async def test_only_post_is_served(agent: Agent, method: str, path: str) -> None:
    answer = await agent.http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    if method != "HEAD":
        assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("version", [None, MODERN])
@pytest.mark.parametrize("body", [[request("ping")], [], {"jsonrpc": "2.0", "result": {}}, "ping", 7])
async def test_a_batch_or_what_is_no_request_is_invalid_in_both_eras(agent: Agent, body: Any, version: str | None) -> None:
    answer = await agent.post(body, {"MCP-Protocol-Version": version})
    assert failure(answer) == (400, -32600)
    assert answer.json()["id"] is None


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b"nope"])
async def test_what_is_not_json_is_a_parse_error_without_an_id(agent: Agent, body: bytes) -> None:
    answer = await agent.post(body)
    assert failure(answer) == (400, -32700)
    assert answer.json()["id"] is None


# What HTTP refuses, in this order: method, origin and host, size, key, rate


async def test_the_first_check_that_fails_decides(agent: Agent) -> None:
    huge = b" " * 1_048_577
    foreign: dict[str, str | None] = {"Origin": "http://evil.example", "Authorization": None}
    assert (await agent.http.put("/mcp", content=huge, headers={"Origin": "http://evil.example"})).status_code == 405
    assert (await agent.post(huge, foreign)).status_code == 403
    assert (await agent.post(request("ping"), {"Host": "rebound.example"})).status_code == 403
    assert (await agent.post(huge, {"Authorization": None})).status_code == 413
    assert (await agent.post(b"nope", {"Authorization": None, "Content-Type": "text/plain"})).status_code == 401
    for answer in (await agent.post(huge, foreign), await agent.post(huge), await agent.post(b"", {"Authorization": None})):
        assert list(answer.json()) == ["error"]


async def test_without_a_key_the_answer_is_a_challenge_without_metadata(agent: Agent) -> None:
    for authorization in (None, "Bearer plnx_" + "a" * 43, "Basic eDp5", "nonsense"):
        answer = await agent.post(request("ping"), {"Authorization": authorization})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="plynx"'


@pytest.mark.parametrize(("accept", "status"), [("text/html", 406), ("text/event-stream", 406), ("*/*", 200), (None, 200)])
async def test_the_answer_is_json_unless_accept_excludes_it(agent: Agent, accept: str | None, status: int) -> None:
    assert (await agent.post(request("ping"), {"Accept": accept or ""})).status_code == status


async def test_a_body_of_another_type_is_415(agent: Agent) -> None:
    answer = await agent.post(json.dumps(request("ping")).encode(), {"Content-Type": "text/plain"})
    assert (answer.status_code, list(answer.json())) == (415, ["error"])


async def test_a_key_that_asks_more_than_a_hundred_times_a_second_waits(busbar: Running, agent: Agent) -> None:
    busbar.app.platform.limiter.enabled = True
    answers: list[httpx.Response] = []
    for _ in range(20):
        answers = await asyncio.gather(*(agent.post(request("ping")) for _ in range(150)))
        if any(answer.status_code == 429 for answer in answers):
            break
    limited = next(answer for answer in answers if answer.status_code == 429)
    assert int(limited.headers["retry-after"]) >= 1
    assert list(limited.json()) == ["error"]


# Scopes and tools, in both eras


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_refusals_of_tools_are_results(busbar: Running, alice: Person, eve: Person, bench: Any, era: str) -> None:
    other, foreign = await busbar.board(alice, "Other"), await busbar.board(eve)
    keys = busbar.http(authorization=f"Bearer {alice.session}")
    made = await keys.post("/api/mcp/keys", json={"name": "k", "scopes": ["pins:read"], "boardIds": [bench.id]})
    agent = Agent(busbar.http(), key=made.json()["key"])

    async def call(tool: str, **arguments: Any) -> dict[str, Any]:
        return result(await getattr(agent, era)("tools/call", {"name": tool, "arguments": arguments}))

    listed = result(await getattr(agent, era)("tools/list"))["tools"]
    assert [tool["name"] for tool in listed] == ["plynx_read_pin"]
    refusals = [
        ("insufficient scope: pins:write required", await call("plynx_write_pin", nonsense=1)),
        ("boardId: required", await call("plynx_read_pin", pin=1)),
        *[("board not found", await call("plynx_read_pin", boardId=i, pin=1)) for i in (other.id, foreign.id, "../etc")],
    ]
    for sentence, refusal in refusals:
        assert refusal["isError"] is True
        assert refusal["content"] == [{"type": "text", "text": sentence}]
        assert "structuredContent" not in refusal
    unknown = await getattr(agent, era)("tools/call", {"name": "plynx_nothing", "arguments": {}})
    assert failure(unknown) == (200 if era == "legacy" else 400, -32602)
    assert set(await call("plynx_read_pin", boardId=bench.id, pin="V4")) >= {"content", "structuredContent", "isError"}


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_tool_refuses_in_the_words_of_rest(busbar: Running, alice: Person, agent: Agent, bench: Any, era: str) -> None:
    http = busbar.http(authorization=f"Bearer {alice.session}")
    for board_id, pin, value in (("nothing", 1, 1), (bench.id, 300, 1), (bench.id, 1, "x" * 1025)):
        told = await http.put(f"/api/boards/{board_id}/pins/{pin}", json={"value": value})
        params = {"name": "plynx_write_pin", "arguments": {"boardId": board_id, "pin": pin, "value": value}}
        refusal = result(await getattr(agent, era)("tools/call", params))
        sentence = told.json()["error"].replace("pinIndex", "pin")
        assert (refusal["isError"], refusal["content"][0]["text"]) == (True, sentence)


async def test_a_revoked_or_expired_key_is_401_on_its_next_request(busbar: Running, alice: Person, bench: Any) -> None:
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, expires_us=busbar.clock.now_us() + 60_000_000)
    agent = Agent(busbar.http(), key=key)
    assert result(await agent.modern("tools/list"))["tools"]
    busbar.clock.forward(seconds=61)
    for answer in (await agent.modern("tools/list"), await agent.legacy("ping")):
        assert answer.status_code == 401
