"""Order of checks: 404/405, 413, 401, 429, 403, 415, 400, then what the service says."""

from __future__ import annotations

from typing import Any

import pytest

from core.kernel.errors import FailedPrecondition
from tests.rest.fakes import ALICE, SESSION, World, client, fake_rpcs, rest_app
from tests.rest.protos import serve, service

LARGE = {"content-length": "99999999"}
COOKIE = {"cookie": f"plynx_session={SESSION}"}
FOREIGN = {"origin": "https://evil.example"}
TEXT = {"content-type": "text/plain"}
STEPS: list[tuple[int, dict[str, Any]]] = [
    (404, {"url": "/api/nope", "headers": {**LARGE, **TEXT}}),
    (405, {"method": "PUT", "headers": {**LARGE, **TEXT}}),
    (413, {"headers": {**LARGE, **TEXT, **FOREIGN}}),
    (401, {"headers": {"cookie": "plynx_session=stale", **TEXT, **FOREIGN}, "content": "no"}),
    (403, {"headers": {**COOKIE, **TEXT, **FOREIGN}, "content": "no"}),
    (403, {"headers": {"authorization": "Bearer scopeless", **TEXT}, "content": "no"}),
    (415, {"headers": {**COOKIE, **TEXT}, "content": "no"}),
    (400, {"headers": ALICE, "content": "no"}),
    (409, {"headers": ALICE, "content": '{"name": "x"}'}),
]


@pytest.mark.parametrize(("status", "request_"), STEPS)
async def test_the_first_check_that_fails_decides(status: int, request_: dict[str, Any], world: World) -> None:
    world.fail = FailedPrecondition("50 boards are enough")
    async with client(rest_app(fake_rpcs(world))) as web:
        whole: dict[str, Any] = {"method": "POST", "url": "/api/boards", **request_}
        answer = await web.request(**whole)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert bool(world.calls) == (status == 409)


async def test_the_rate_comes_after_the_credential_and_before_everything_else(world: World) -> None:
    async with client(rest_app(fake_rpcs(world), limits=True)) as web:
        for _ in range(5):
            assert (await web.post("/api/auth/register", json={})).status_code == 400
        answer = await web.post("/api/auth/register", content="no", headers={**COOKIE, **TEXT, **FOREIGN})
        assert (answer.status_code, answer.json()) == (429, {"error": "too many requests, try again later"})
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert (await web.post("/api/auth/register", headers=LARGE)).status_code == 413
        assert (await web.post("/api/boards", json={})).status_code == 401


async def test_makers_have_a_limit_for_everything_that_states_none(world: World) -> None:
    async with client(rest_app(fake_rpcs(world), limits=True)) as web:
        for path in ("/api/boards", "/api/boards/b1", "/api/boards/b1/pins") * 100:
            assert (await web.get(path, headers=ALICE)).status_code == 200
        assert (await web.get("/api/mcp/keys", headers=ALICE)).status_code == 429
        assert (await web.get("/api/v1/telemetry", headers={"x-api-key": "plx_org"})).status_code == 200


async def test_the_lab_limits_addresses_but_neither_local_ones_nor_machines() -> None:
    rpcs = """
    Look(Ask) returns (Ask) {get: "/api/v1/x"}
    Points(Ask) returns (Ask) {get: "/api/v1/datapoints"}
    """
    desc = service("message Ask {}", rpcs, "LAB")
    async with client(rest_app(serve(desc, lambda request, _call: request), limits=True), peer=("127.0.0.1", 1)) as web:
        forged = {"x-forwarded-for": "203.0.113.77"}
        statuses = [(await web.get("/api/v1/x", headers=forged)).status_code for _ in range(301)]
        assert (statuses.count(200), statuses[-1]) == (300, 429)
        refused = await web.get("/api/v1/x", headers=forged)
        assert refused.json() == {"detail": "Too many requests. Please try again later."}
        assert (await web.get("/api/v1/datapoints", headers=forged)).status_code == 200
        for address in ("10.1.2.3", "127.0.0.9", "172.31.0.1", "192.168.7.7"):
            local = [(await web.get("/api/v1/x", headers={"x-forwarded-for": address})).status_code for _ in range(301)]
            assert set(local) == {200}
