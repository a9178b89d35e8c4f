"""Refusals in the dialect of each surface."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from core.kernel.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    ResourceExhausted,
    TooLarge,
    Unavailable,
    Unimplemented,
)
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import Surface
from tests.rest.fakes import ALICE, DEVICE, World, client, fake_rpcs, rest_app
from tests.rest.protos import serve, service

ERRORS = [
    (InvalidArgument("no"), 400, "VALIDATION_ERROR"),
    (PermissionDenied("no"), 403, "FORBIDDEN"),
    (NotFound("no"), 404, "NOT_FOUND"),
    (AlreadyExists("no"), 409, "CONFLICT"),
    (FailedPrecondition("no"), 409, "CONFLICT"),
    (Aborted("no"), 409, "CONFLICT"),
    (TooLarge("no"), 413, "VALIDATION_ERROR"),
    (ResourceExhausted("no"), 429, "RATE_LIMITED"),
    (Unimplemented("no"), 501, "INTERNAL_ERROR"),
    (Unavailable("no"), 503, "DATABASE_ERROR"),
    (Unavailable("no", reason=ErrorReason.SHUTTING_DOWN), 503, "INTERNAL_ERROR"),
    (DeadlineExceeded("no"), 504, "INTERNAL_ERROR"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS)
async def test_every_code_has_its_status(
    web: httpx.AsyncClient, world: World, error: DomainError, status: int, code: str
) -> None:
    world.fail = error
    maker = await web.get("/api/boards", headers=ALICE)
    assert (maker.status_code, maker.json()) == (status, {"error": "no"})
    telemetry = await web.get("/api/v1/telemetry", headers=DEVICE)
    assert (telemetry.status_code, telemetry.json()) == (status, {"error": code, "message": "no"})


@pytest.mark.parametrize("path", ["/api/ingest", "/ingest"])
async def test_devices_get_a_sentence_where_they_expect_one(web: httpx.AsyncClient, world: World, path: str) -> None:
    world.fail = InvalidArgument("points[3].metric: required")
    answer = await web.post(path, content="{}", headers=DEVICE)
    assert answer.json() == {"error": "points[3].metric: required", "message": "points[3].metric: required"}
    verify = await web.get("/api/auth/verify-key")
    assert verify.json() == {"error": "authentication required", "message": "authentication required"}


async def test_a_stale_revision_is_told_from_a_stale_precondition(web: httpx.AsyncClient, world: World) -> None:
    stale = {**ALICE, "if-match": '"8"'}
    world.fail = Aborted("revision 9 is newer", revision=9)
    assert (await web.patch("/api/boards/b1", json={}, headers=stale)).status_code == 409
    world.fail = PreconditionFailed("revision 9 is newer", revision=9)
    assert (await web.patch("/api/boards/b1", json={}, headers=stale)).status_code == 412


async def test_waiting_times_are_whole_seconds(web: httpx.AsyncClient, world: World) -> None:
    for seconds, header in ((0.2, "1"), (59.01, "60"), (30, "30")):
        world.fail = ResourceExhausted("slow down", retry_after=seconds)
        assert (await web.get("/api/boards", headers=ALICE)).headers["retry-after"] == header
    world.fail = NotFound("no")
    assert "retry-after" not in (await web.get("/api/boards", headers=ALICE)).headers


async def test_a_service_may_choose_the_status_of_its_refusal(web: httpx.AsyncClient, world: World) -> None:
    def gone(call: Any) -> None:
        call.status = 410
        raise NotFound("the code was used")

    world.dress = gone
    answer = await web.get("/api/boards", headers=ALICE)
    assert (answer.status_code, answer.json()) == (410, {"error": "the code was used"})


async def test_a_defect_tells_nothing_but_the_request_id(web: httpx.AsyncClient, world: World) -> None:
    world.fail = RuntimeError("password=hunter2")
    answer = await web.get("/api/boards", headers={**ALICE, "x-request-id": "r1"})
    assert (answer.status_code, answer.json(), answer.headers["x-request-id"]) == (500, {"error": "internal error"}, "r1")


async def test_a_defect_of_the_door_is_answered_too(web: httpx.AsyncClient, world: World) -> None:
    world.dress = lambda call: call.headers.append(("x-bad", "\u20ac"))
    answer = await web.get("/api/boards", headers=ALICE)
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/api/nope", "application/json", '{"error":"not found"}'),
        ("/api/ingestion", "application/json", '{"error":"not found"}'),
        ("/api/ingest/x", "application/json", '{"error":"not found","message":"not found"}'),
        ("/api/runs/7", "application/json", '{"error":"NOT_FOUND","message":"not found"}'),
        ("/api/v1/nope", "application/json", '{"detail":"Not Found"}'),
        ("/plans/1", "text/plain; charset=utf-8", "not found\n"),
        ("/", "text/plain; charset=utf-8", "not found\n"),
    ],
)
async def test_an_unknown_path_is_answered_by_its_prefix(
    web: httpx.AsyncClient, path: str, content_type: str, body: str
) -> None:
    answer = await web.get(path)
    assert (answer.status_code, answer.headers["content-type"], answer.text) == (404, content_type, body)


async def test_a_wrong_method_names_those_that_are_allowed(web: httpx.AsyncClient) -> None:
    answer = await web.put("/api/boards", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert answer.json() == {"error": "method not allowed, use GET, HEAD, OPTIONS, POST"}
    assert (await web.get("/ingest")).json()["message"] == "method not allowed, use OPTIONS, POST"


async def test_a_listener_of_one_surface_speaks_only_its_dialect(world: World) -> None:
    app = rest_app(fake_rpcs(world), surfaces={Surface.TELEMETRY})
    async with client(app) as web:
        assert (await web.get("/api/boards", headers=ALICE)).json() == {"error": "NOT_FOUND", "message": "not found"}
        assert (await web.get("/anything")).json() == {"error": "NOT_FOUND", "message": "not found"}
        assert (await web.get("/api/auth/verify-key", headers=DEVICE)).status_code == 200
        assert (await web.get("/healthz")).status_code == 200


ASK = """
message Ask {
  string id = 1;
  string name = 2 [(buf.validate.field).string.min_len = 2];
  int32 page = 3 [(buf.validate.field).int32.gte = 1];
}
"""


async def test_plans_answer_with_text_unless_json_is_asked_for() -> None:
    def fail(_request: Any, _call: Any) -> Any:
        raise NotFound("plan not found")

    rpcs = serve(service(ASK, 'Get(Ask) returns (Ask) {get: "/plans/{id}"}', "PLANS"), fail)
    async with client(rest_app(rpcs)) as web:
        text = await web.get("/plans/1?name=ab&page=1")
        assert (text.status_code, text.headers["content-type"], text.text) == (
            404,
            "text/plain; charset=utf-8",
            "plan not found\n",
        )
        answer = await web.get("/plans/1?name=ab&page=1", headers={"accept": "application/json"})
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"type": "other", "status": 404, "msg": "plan not found"}
