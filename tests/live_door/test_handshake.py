"""Who gets a socket, and what everyone else is told in plain HTTP."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from tests.live_door.serving import PINS, Serving, hear, serving


async def test_the_service_speaks_first_and_the_snapshot_prints_nulls(server: Serving) -> None:
    async with server.connect() as client:
        snapshot = await hear(client)
    assert {k: snapshot[k] for k in ("type", "boardId", "status", "seq")} == {
        "type": "snapshot", "boardId": "b1", "status": "online", "seq": 41,
    }  # fmt: skip
    pin = snapshot["pins"][0]
    assert (pin["pinIndex"], pin["label"], pin["value"], pin["updatedBy"], pin["updatedAt"]) == (7, "V7", None, None, None)


async def test_the_query_fills_the_opening_member(server: Serving) -> None:
    async with server.connect(f"{PINS}?since=41.0&unknown=1") as client:
        await hear(client)
    assert (server.service.opened[0].board_id, server.service.opened[0].since) == ("b1", 41)


@pytest.mark.parametrize(
    ("token", "headers", "query"),
    [
        ("alice", {}, ""),
        (None, {"Cookie": "theme=dark; plynx_session=alice"}, ""),
        (None, {}, "?token=alice"),
        ("alice", {"Cookie": "plynx_session=nobody"}, "?token=nobody"),
        ("reader", {}, ""),
    ],
)
async def test_a_credential_may_come_in_many_ways(
    server: Serving, token: str | None, headers: dict[str, str], query: str
) -> None:
    async with server.connect(PINS + query, token, headers=headers) as client:
        assert (await hear(client))["type"] == "snapshot"
    assert server.service.calls[0].caller.user_id == "u1"


@pytest.mark.parametrize(
    ("path", "token", "status", "error"),
    [
        (PINS, None, 401, "authentication required"),
        (PINS, "nobody", 401, "invalid or expired credential"),
        (f"{PINS}?token=alice", "nobody", 401, "invalid or expired credential"),
        (PINS, "rig", 401, "invalid or expired credential"),
        (PINS, "mute", 403, "insufficient scope: pins:read required"),
        ("/ws/boards/b9/pins", "alice", 404, "board b9 not found"),
        ("/ws/nothing", "alice", 404, "not found"),
        (f"{PINS}?since=soon", "alice", 400, "since: must be a number"),
        (f"{PINS}?since=-1", "alice", 400, "since: must be greater than or equal to 0"),
        ("/ws/boards/broken/pins", "alice", 500, "internal error"),
    ],
)
async def test_a_refusal_is_plain_http(server: Serving, path: str, token: str | None, status: int, error: str) -> None:
    response = await server.refusal(path, token)
    assert (response.status_code, json.loads(response.body or b"")) == (status, {"error": error})
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]


async def test_a_cookie_from_a_foreign_page_is_refused(server: Serving) -> None:
    response = await server.refusal(token=None, headers={"Cookie": "plynx_session=alice", "Origin": "https://evil.example"})
    assert response.status_code == 403
    assert server.service.calls == []


async def test_a_foreign_page_with_a_token_of_its_own_is_served(server: Serving) -> None:
    async with server.connect(headers={"Origin": "https://elsewhere.example"}) as client:
        await hear(client)


@pytest.mark.parametrize("origin", ["{own}", "https://app.example"])
async def test_a_cookie_from_our_own_or_a_configured_page_is_taken(origin: str) -> None:
    async with serving(cors_origins=["https://app.example"]) as server:
        headers = {"Cookie": "plynx_session=alice", "Origin": origin.format(own=server.url.replace("ws", "http", 1))}
        async with server.connect(token=None, headers=headers) as client:
            await hear(client)


async def test_too_many_connections_are_told_when_to_come_back() -> None:
    async with serving(limits=True) as server:
        responses: list[Any] = []
        for _ in range(301):
            responses = [await server.refusal("/ws/boards/b9/pins")]
    assert responses[-1].status_code == 429
    assert 1 <= int(responses[-1].headers["retry-after"]) <= 60


async def test_a_server_that_goes_down_takes_no_new_sockets(server: Serving) -> None:
    server.platform.draining = True
    assert (await server.refusal()).status_code == 503


async def test_a_token_in_the_query_is_not_logged(server: Serving, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with server.connect(f"{PINS}?token=alice", None) as client:
            await hear(client)
    assert PINS in caplog.text
    assert not [r for r in caplog.records if r.name.startswith("uvicorn") and "alice" in r.getMessage()]


async def test_a_server_without_plain_answers_closes_instead(server: Serving) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {"type": "websocket", "scheme": "ws", "path": PINS, "raw_path": PINS.encode(), "query_string": b"", "headers": []}
    await server.live(scope, receive, send)
    assert [(event["type"], event["code"]) for event in sent] == [("websocket.close", 1008)]
