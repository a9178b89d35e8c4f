"""What HTTP refuses before the protocol begins, and in which order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from adapters.mcp.app import MAX_BODY_BYTES, McpApp
from core.kernel.limits import Limiter
from core.kernel.pipeline import Platform
from core.kernel.settings import Settings
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.mcp.fakes import KEY, SESSION, Agent, FakeBoards, FakeKeys, FakePins, request, rpcs, unrecorded

PING = request("ping")
TOO_LARGE = b" " * (MAX_BODY_BYTES + 1)
NO_KEY: dict[str, str | None] = {"Authorization": None}


@pytest.mark.parametrize("path", ["/api/mcp/rpc", "/mcp"])
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"])
async def test_only_post_is_served(agent: Agent, method: str, path: str) -> None:
    answer = await agent.http.request(method, path, headers={"Origin": "http://evil.example"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_other_paths_do_not_exist(agent: Agent) -> None:
    answer = await agent.post(PING, path="/api/mcp")
    assert (answer.status_code, answer.json()) == (404, {"error": "not found"})


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1.evil.example", "null", "file://localhost", ""])
async def test_a_page_of_another_site_is_refused_before_its_body_is_read(agent: Agent, origin: str) -> None:
    answer = await agent.post(TOO_LARGE, {**NO_KEY, "Origin": origin})
    assert answer.status_code == 403
    assert answer.json() == {"error": "origin not allowed"}


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:8787", "http://[::1]:5173"])
async def test_a_page_of_this_machine_may_call(agent: Agent, origin: str) -> None:
    assert (await agent.post(PING, {"Origin": origin})).status_code == 200


async def test_a_name_that_was_pointed_at_this_machine_is_refused(agent: Agent) -> None:
    answer = await agent.post(PING, {"Host": "rebound.example:8787"})
    assert answer.status_code == 403
    assert "host not allowed" in answer.json()["error"]


@pytest.mark.parametrize("host", ["localhost", "localhost:8787", "127.0.0.1:8787", "[::1]:8787"])
async def test_every_name_of_this_machine_is_answered(agent: Agent, host: str) -> None:
    assert (await agent.post(PING, {"Host": host})).status_code == 200


async def test_a_body_of_more_than_a_mebibyte_is_refused_before_the_key_is_asked_for(agent: Agent) -> None:
    answer = await agent.post(TOO_LARGE, NO_KEY)
    assert answer.status_code == 413
    assert "1048576" in answer.json()["error"]


async def test_a_large_body_of_unknown_length_is_refused_too(agent: Agent) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 65_536

    answer = await agent.http.post("/mcp", content=pieces())
    assert answer.status_code == 413


async def test_a_body_of_exactly_a_mebibyte_is_read(agent: Agent) -> None:
    assert (await agent.post(b" " * MAX_BODY_BYTES)).json()["error"]["code"] == -32700


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        (None, "authentication required"),
        ("Bearer ", "authentication required"),
        (f"Basic {KEY}", "authentication required"),
        (KEY, "authentication required"),
        ("Bearer plnx_unknown", "invalid or expired credential"),
        (f"Bearer {SESSION}", "invalid or expired credential"),
    ],
)
async def test_without_an_agent_key_the_answer_is_a_challenge(agent: Agent, authorization: str | None, message: str) -> None:
    answer = await agent.post(b"not even JSON", {"Authorization": authorization, "Accept": "text/html"})
    assert (answer.status_code, answer.json()) == (401, {"error": message})
    assert answer.headers["www-authenticate"] == 'Bearer realm="plynx"'


async def test_a_key_in_a_cookie_or_in_the_query_does_not_count(agent: Agent) -> None:
    answer = await agent.post(PING, {**NO_KEY, "Cookie": f"plynx_session={SESSION}"}, path=f"/mcp?token={SESSION}")
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (CredentialKind.SESSION, 200),
        (CredentialKind.TELEMETRY_KEY, 200),
        (CredentialKind.LAB_TOKEN, 200),
        (CredentialKind.BOARD_TOKEN, 401),
        (CredentialKind.DEVICE_TOKEN, 401),
    ],
)
async def test_the_short_path_takes_every_key_that_a_person_holds(
    agent: Agent, keys: FakeKeys, kind: CredentialKind, status: int
) -> None:
    keys.issue("other", kind)
    assert (await agent.legacy("ping", key="other", path="/mcp")).status_code == status


async def test_a_revoked_key_is_refused_on_the_next_request(agent: Agent, keys: FakeKeys) -> None:
    assert (await agent.post(PING)).status_code == 200
    keys.revoke(KEY)
    assert (await agent.post(PING)).status_code == 401


async def test_the_hundred_and_first_request_of_a_second_waits(keys: FakeKeys) -> None:
    app = McpApp(Platform(rpcs(FakePins(), FakeBoards()), keys, limiter=Limiter()), Settings(), unrecorded)
    keys.issue("plnx_other", CredentialKind.AGENT_KEY)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        agent = Agent(http)
        answers = [await agent.post(b"x", {"Accept": "text/html"}) for _ in range(101)]
        # A slow machine takes more than a second for a hundred requests; then more are due.
        while answers[-1].status_code != 429 and len(answers) < 5000:
            answers.append(await agent.post(b"x", {"Accept": "text/html"}))
        assert (answers[-1].status_code, answers[-1].headers["retry-after"]) == (429, "1")
        assert answers[-1].json() == {"error": "too many requests, try again later"}
        assert (await agent.legacy("ping", key="plnx_other")).status_code == 200


@pytest.mark.parametrize("accept", ["text/event-stream", "text/html", "application/json;q=0, */*"])
async def test_an_accept_header_that_excludes_json_is_refused(agent: Agent, accept: str) -> None:
    assert (await agent.post(PING, {"Accept": accept, "Content-Type": "text/plain"})).status_code == 406


@pytest.mark.parametrize("accept", [None, "", "*/*", "application/*", "application/json", "text/html, application/json;q=0.1"])
async def test_any_accept_header_that_allows_json_will_do(agent: Agent, accept: str | None) -> None:
    assert (await agent.post(PING, {"Accept": accept})).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded"])
async def test_a_body_that_is_no_json_by_its_type_is_refused(agent: Agent, kind: str) -> None:
    answer = await agent.post(PING, {"Content-Type": kind})
    assert (answer.status_code, answer.json()) == (415, {"error": "the body must be application/json"})


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/JSON", "application/rpc+json"])
async def test_types_of_json_are_read(agent: Agent, kind: str) -> None:
    assert (await agent.post(PING, {"Content-Type": kind})).status_code == 200


async def test_a_body_without_a_type_is_taken_as_json(agent: Agent) -> None:
    assert (await agent.post(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')).json()["result"] == {}


async def test_a_sane_request_id_is_repeated_and_another_is_replaced(agent: Agent) -> None:
    repeated = await agent.post(PING, {"X-Request-Id": "abc-1"})
    replaced = await agent.post(b"", {"X-Request-Id": "a b"})
    assert repeated.headers["x-request-id"] == "abc-1"
    assert len(replaced.headers["x-request-id"]) == 32


async def test_a_server_that_is_going_down_says_when_to_come_back(agent: Agent, platform: Platform) -> None:
    platform.draining = True
    answer = await agent.post(PING)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_a_defect_says_nothing_of_the_code(agent: Agent, keys: FakeKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(credential: str) -> Any:
        raise RuntimeError("the secret of the code")

    monkeypatch.setattr(keys, "authenticate", broken)
    answer = await agent.post(PING)
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})


async def test_a_caller_who_leaves_in_the_middle_of_its_body_gets_no_answer(app: McpApp) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": [(b"host", b"localhost")], "query_string": b""}
    await app(scope, receive, send)
    assert sent == []
