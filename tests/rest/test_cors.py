"""Pages of other origins, and what OPTIONS says."""

from __future__ import annotations

import httpx

from tests.rest.fakes import ALICE, DEVICE, World, client, fake_rpcs, rest_app
from tests.rest.protos import serve, service

APP = "https://app.example"
PREFLIGHT = {"access-control-request-method": "PATCH", "access-control-request-headers": "content-type,if-match"}


async def test_any_page_may_send_points(web: httpx.AsyncClient) -> None:
    for path in ("/ingest", "/api/ingest"):
        answer = await web.options(path, headers={"origin": "https://any.example", **PREFLIGHT})
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert {"POST", "OPTIONS"} <= set(answer.headers["access-control-allow-methods"].split(", "))
        assert {"Content-Type", "x-api-key"} <= set(answer.headers["access-control-allow-headers"].split(", "))
    for headers in (DEVICE, {}):
        answer = await web.post("/ingest", content="{}", headers={"origin": "https://any.example", **headers})
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_pages_of_configured_origins_may_use_cookies(world: World) -> None:
    async with client(rest_app(fake_rpcs(world), cors_origins=[APP])) as web:
        preflight = await web.options("/api/boards/b1", headers={"origin": APP, **PREFLIGHT})
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-headers"] == "content-type,if-match"
        for answer in (
            preflight,
            await web.get("/api/boards", headers={**ALICE, "origin": APP}),
            await web.get("/api/x", headers={"origin": APP}),
        ):
            assert answer.headers["access-control-allow-origin"] == APP
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert answer.headers["vary"] == "Origin"


async def test_pages_of_other_origins_are_told_nothing(world: World) -> None:
    async with client(rest_app(fake_rpcs(world), cors_origins=[APP])) as web:
        for answer in (
            await web.options("/api/boards", headers={"origin": "https://evil.example", **PREFLIGHT}),
            await web.get("/api/boards", headers={**ALICE, "origin": "https://evil.example"}),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_options_says_what_a_path_takes(web: httpx.AsyncClient) -> None:
    answer = await web.options("/api/boards/b1/pins/7")
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS, PUT")
    assert (await web.options("/api/nope")).status_code == 404


async def test_the_lab_answers_preflights_aloud() -> None:
    desc = service("message Ask {}", 'Look(Ask) returns (Ask) {get: "/api/v1/x"}', "LAB")
    async with client(rest_app(serve(desc, lambda request, _call: request), cors_origins=[APP])) as web:
        answer = await web.options("/api/v1/x", headers={"origin": APP, **PREFLIGHT})
        assert (answer.status_code, answer.text, answer.headers["access-control-max-age"]) == (200, "OK", "600")
        assert answer.headers["access-control-allow-methods"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
        answer = await web.options("/api/v1/x", headers={"origin": "https://evil.example", **PREFLIGHT})
        assert (answer.status_code, answer.text) == (400, "Disallowed CORS origin")
