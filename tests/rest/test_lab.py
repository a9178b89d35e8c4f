"""The house style of the lab: lists of faults, lenient reading, order of checks, rates, pages of other origins, headers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.rest.fakes import client, rest_app
from tests.rest.protos import serve, service

ASK = """
message Ask {
  string id = 1;
  string name = 2 [(google.api.field_behavior) = REQUIRED, (buf.validate.field).required = true,
    (buf.validate.field).string = {min_len: 1, max_len: 5}];
  optional double value = 3 [(google.api.field_behavior) = REQUIRED, (buf.validate.field).required = true,
    (buf.validate.field).double.finite = true];
  optional int32 count = 4 [(buf.validate.field).int32 = {gte: 1, lte: 12}];
  optional bool enabled = 5;
  string kind = 6 [(buf.validate.field).ignore = IGNORE_IF_ZERO_VALUE,
    (buf.validate.field).string = {in: ["a", "b", "c"]}];
  string email = 7 [(buf.validate.field).ignore = IGNORE_IF_ZERO_VALUE, (buf.validate.field).string.email = true];
  repeated string tags = 8 [(buf.validate.field).repeated = {max_items: 2, items: {string: {in: ["x", "y"]}}}];
  google.protobuf.Timestamp at = 9;
  optional string note = 10 [(buf.validate.field).string.pattern = "^https?://"];
  string password = 11 [(buf.validate.field).ignore = IGNORE_IF_ZERO_VALUE, (buf.validate.field).string.min_len = 8,
    (busbar.api.v1.secret) = true];
  repeated Item items = 12 [(buf.validate.field).repeated.min_items = 1,
    (buf.validate.field).ignore = IGNORE_IF_ZERO_VALUE];
  google.protobuf.Struct options = 13;
  optional int32 free = 14;
}
message Item {
  optional double value = 1 [(google.api.field_behavior) = REQUIRED, (buf.validate.field).required = true];
}
message Pair {
  option (buf.validate.message).cel = {id: "order" message: "high must not be below low" expression: "this.high >= this.low"};
  double low = 1;
  double high = 2;
}
message Page {
  string id = 1;
  optional int32 page = 2 [(buf.validate.field).int32.gte = 1];
  optional bool all = 3;
  optional double least = 4;
  google.protobuf.Timestamp since = 5;
}
message Change {
  string id = 1;
  optional string name = 2 [(buf.validate.field).string.min_len = 1];
  google.protobuf.FieldMask update_mask = 3;
}
"""
RPCS = """
Save(Ask) returns (Ask) {post: "/api/v1/asks/{id}" body: "*"}
Set(Pair) returns (Pair) {post: "/api/v1/pairs" body: "*"}
List(Page) returns (Page) {get: "/api/v1/pages/{id}"}
Update(Change) returns (Change) {put: "/api/v1/pages/{id}" body: "*"}
"""
GOOD: dict[str, Any] = {"name": "n", "value": 1}
APP = "http://localhost:5173"


@pytest.fixture
async def lab() -> AsyncIterator[httpx.AsyncClient]:
    rpcs = serve(service(ASK, RPCS, "LAB"), lambda request, _call: request)
    async with client(rest_app(rpcs)) as opened:
        yield opened


def fault(kind: str, name: str, message: str, value: Any, **context: Any) -> dict[str, Any]:
    """Return the only entry of a list of faults."""
    entry = {"type": kind, "loc": ["body", name], "msg": message, "input": value}
    return {**entry, "ctx": context} if context else entry


FAULTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"name": ""}, fault("string_too_short", "name", "String should have at least 1 character", "", min_length=1)),
    ({"name": "abcdef"}, fault("string_too_long", "name", "String should have at most 5 characters", "abcdef", max_length=5)),
    ({"name": 7}, fault("string_type", "name", "Input should be a valid string", 7)),
    ({"name": None}, fault("string_type", "name", "Input should be a valid string", None)),
    ({"value": None}, fault("float_type", "value", "Input should be a valid number", None)),
    (
        {"value": "x"},
        fault("float_parsing", "value", "Input should be a valid number, unable to parse string as a number", "x"),
    ),
    ({"value": "NaN"}, fault("finite_number", "value", "Input should be a finite number", "NaN")),
    ({"value": "Infinity"}, fault("finite_number", "value", "Input should be a finite number", "Infinity")),
    ({"value": []}, fault("float_type", "value", "Input should be a valid number", [])),
    ({"count": 0}, fault("greater_than_equal", "count", "Input should be greater than or equal to 1", 0, ge=1)),
    ({"count": 13}, fault("less_than_equal", "count", "Input should be less than or equal to 12", 13, le=12)),
    ({"count": "13"}, fault("less_than_equal", "count", "Input should be less than or equal to 12", "13", le=12)),
    (
        {"count": 1.5},
        fault("int_from_float", "count", "Input should be a valid integer, got a number with a fractional part", 1.5),
    ),
    (
        {"count": "x"},
        fault("int_parsing", "count", "Input should be a valid integer, unable to parse string as an integer", "x"),
    ),
    ({"count": {}}, fault("int_type", "count", "Input should be a valid integer", {})),
    (
        {"free": 9_999_999_999},
        fault("less_than_equal", "free", "Input should be less than or equal to 2147483647", 9_999_999_999, le=2_147_483_647),
    ),
    ({"enabled": None}, fault("bool_type", "enabled", "Input should be a valid boolean", None)),
    (
        {"enabled": "maybe"},
        fault("bool_parsing", "enabled", "Input should be a valid boolean, unable to interpret input", "maybe"),
    ),
    ({"kind": "d"}, fault("enum", "kind", "Input should be 'a', 'b' or 'c'", "d", expected="'a', 'b' or 'c'")),
    ({"kind": ""}, fault("enum", "kind", "Input should be 'a', 'b' or 'c'", "", expected="'a', 'b' or 'c'")),
    ({"kind": 3}, fault("enum", "kind", "Input should be 'a', 'b' or 'c'", 3, expected="'a', 'b' or 'c'")),
    (
        {"email": "nobody"},
        fault(
            "value_error",
            "email",
            "value is not a valid email address: An email address must have an @-sign.",
            "nobody",
            reason="An email address must have an @-sign.",
        ),
    ),
    ({"tags": "x"}, fault("list_type", "tags", "Input should be a valid list", "x")),
    (
        {"tags": ["x", "y", "x"]},
        fault(
            "too_long",
            "tags",
            "List should have at most 2 items after validation, not 3",
            ["x", "y", "x"],
            field_type="List",
            max_length=2,
            actual_length=3,
        ),
    ),
    (
        {"note": "ftp://x"},
        fault(
            "string_pattern_mismatch",
            "note",
            "String should match pattern '^https?://'",
            "ftp://x",
            pattern="^https?://",
        ),
    ),
    ({"at": []}, fault("datetime_type", "at", "Input should be a valid datetime", [])),
    ({"options": 1}, fault("dict_type", "options", "Input should be a valid dictionary", 1)),
]


@pytest.mark.parametrize(("more", "expected"), FAULTS)
async def test_a_fault_has_the_type_the_sentence_and_the_limit_that_clients_know(
    lab: httpx.AsyncClient, more: dict[str, Any], expected: dict[str, Any]
) -> None:
    answer = await lab.post("/api/v1/asks/1", json={**GOOD, **more})
    assert (answer.status_code, answer.json()) == (422, {"detail": [expected]})


async def test_all_faults_of_a_request_come_in_the_order_of_its_fields(lab: httpx.AsyncClient) -> None:
    body = {"value": "x", "count": 0, "kind": "d", "unknown": 1, "tags": ["x", "z"], "items": [{"value": 1}, {}, 7]}
    detail = (await lab.post("/api/v1/asks/1", json=body)).json()["detail"]
    assert [(entry["type"], entry["loc"]) for entry in detail] == [
        ("missing", ["body", "name"]),
        ("float_parsing", ["body", "value"]),
        ("greater_than_equal", ["body", "count"]),
        ("enum", ["body", "kind"]),
        ("enum", ["body", "tags", 1]),
        ("missing", ["body", "items", 1, "value"]),
        ("model_attributes_type", ["body", "items", 2]),
    ]
    assert detail[0] == {"type": "missing", "loc": ["body", "name"], "msg": "Field required", "input": body}
    assert detail[5]["input"] == {}


async def test_secrets_are_not_repeated(lab: httpx.AsyncClient) -> None:
    answer = await lab.post("/api/v1/asks/1", json={"value": 1, "password": "hunter2"})
    missing, short = answer.json()["detail"]
    assert missing["input"] == {"value": 1, "password": "**********"}
    assert (short["type"], short["input"], short["ctx"]) == ("string_too_short", "**********", {"min_length": 8})
    assert "hunter2" not in answer.text


async def test_numbers_switches_and_times_are_read_leniently(lab: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"name": "n", "value": "1.5", "count": "7", "enabled": "yes", "at": "2026-01-02T03:04:05", "x": 1}
    answer = await lab.post("/api/v1/asks/1", json=body)
    got = answer.json()
    assert answer.status_code == 200
    assert (got["value"], got["count"], got["enabled"], got["at"]) == (1.5, 7, True, "2026-01-02T03:04:05Z")
    body = {"name": "n", "value": True, "count": 7.0, "enabled": 0, "at": 1_767_323_045, "note": None}
    got = (await lab.post("/api/v1/asks/1", json=body)).json()
    assert (got["value"], got["count"], got["enabled"], got["at"]) == (1.0, 7, False, "2026-01-02T03:04:05Z")
    body = {"name": "n", "value": 10, "at": "2026-01-02 04:04:05.000001+01:00"}
    answer = await lab.post("/api/v1/asks/1", json=body)
    assert answer.json()["at"] == "2026-01-02T03:04:05.000001Z"
    assert '"value":10.0' in answer.text


@pytest.mark.parametrize(
    ("content", "message", "offset"),
    [
        (b"{", "Expecting property name enclosed in double quotes", 1),
        (b'{"name": }', "Expecting value", 9),
        (b'{"value": NaN}', None, None),
        (b"nonsense", "Expecting value", 0),
    ],
)
async def test_what_is_no_json_is_told_by_its_offset(
    lab: httpx.AsyncClient, content: bytes, message: str | None, offset: int | None
) -> None:
    answer = await lab.post("/api/v1/asks/1", content=content)
    assert answer.status_code == 422
    (entry,) = answer.json()["detail"]
    assert (entry["type"], entry["msg"], entry["input"], entry["loc"][0]) == ("json_invalid", "JSON decode error", {}, "body")
    assert isinstance(entry["loc"][1], int)
    assert list(entry["ctx"]) == ["error"]
    if message is not None:
        assert (entry["ctx"]["error"], entry["loc"][1]) == (message, offset)


@pytest.mark.parametrize("content", [b"[1]", b'"text"', b"7", b"true"])
async def test_a_body_that_is_no_object_is_told_apart(lab: httpx.AsyncClient, content: bytes) -> None:
    (entry,) = (await lab.post("/api/v1/asks/1", content=content)).json()["detail"]
    assert (entry["type"], entry["loc"]) == ("model_attributes_type", ["body"])
    assert entry["msg"] == "Input should be a valid dictionary or object to extract fields from"


@pytest.mark.parametrize("content", [b"", b"null"])
async def test_a_body_that_is_not_there_is_missing(lab: httpx.AsyncClient, content: bytes) -> None:
    missing = {"detail": [{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}]}
    for method, path in (("POST", "/api/v1/asks/1"), ("PUT", "/api/v1/pages/1")):
        answer = await lab.request(method, path, content=content)
        assert (answer.status_code, answer.json()) == (422, missing)
    assert (await lab.post("/api/v1/pairs", content=content)).status_code == 200


async def test_a_body_of_another_type_is_no_object(lab: httpx.AsyncClient) -> None:
    answer = await lab.post("/api/v1/asks/1", content="name=n", headers={"content-type": "application/x-www-form-urlencoded"})
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "model_attributes_type")


async def test_what_concerns_two_fields_is_a_value_error_of_the_body(lab: httpx.AsyncClient) -> None:
    answer = await lab.post("/api/v1/pairs", json={"low": 2, "high": 1})
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        [
            {
                "type": "value_error",
                "loc": ["body"],
                "msg": "Value error, high must not be below low",
                "input": {"low": 2, "high": 1},
                "ctx": {"error": {}},
            }
        ],
    )


async def test_queries_are_read_and_refused_in_the_same_words(lab: httpx.AsyncClient) -> None:
    answer = await lab.get("/api/v1/pages/1?page=2&all=on&least=1e3&since=2026-01-02T03:04:05&_t=17")
    assert answer.json() == {"id": "1", "page": 2, "all": True, "least": 1000.0, "since": "2026-01-02T03:04:05Z"}
    detail = (await lab.get("/api/v1/pages/1?page=0&all=x")).json()["detail"]
    assert detail == [
        {
            "type": "greater_than_equal",
            "loc": ["query", "page"],
            "msg": "Input should be greater than or equal to 1",
            "input": "0",
            "ctx": {"ge": 1},
        },
        {
            "type": "bool_parsing",
            "loc": ["query", "all"],
            "msg": "Input should be a valid boolean, unable to interpret input",
            "input": "x",
        },
    ]


async def test_every_answer_has_a_fresh_id_and_the_headers_of_a_safe_page(lab: httpx.AsyncClient) -> None:
    seen: set[str] = set()
    for answer in (
        await lab.get("/api/v1/pages/1", headers={"x-request-id": "mine"}),
        await lab.get("/api/v1/pages/1?page=x"),
        await lab.get("/api/v1/nope"),
        await lab.delete("/api/v1/pages/1"),
    ):
        assert UUID(answer.headers["x-request-id"]).version == 4
        seen.add(answer.headers["x-request-id"])
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "strict-origin-when-cross-origin"
        assert answer.headers["x-xss-protection"] == "0"
        assert answer.headers["permissions-policy"] == "camera=(), microphone=(), geolocation=()"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers.get_list("cache-control") == ["no-store, no-cache, must-revalidate"]
        assert answer.headers["pragma"] == "no-cache"
    assert len(seen) == 4


async def test_unknown_paths_and_wrong_methods(lab: httpx.AsyncClient) -> None:
    answer = await lab.get("/api/v1/nope")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
    for method in ("DELETE", "PATCH", "OPTIONS"):
        answer = await lab.request(method, "/api/v1/pages/1")
        assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})
        assert answer.headers["allow"] == "GET, PUT"
    assert (await lab.head("/api/v1/pages/1")).status_code == 405
    for path in ("/api/v1/pages/1", "/api/v1/pages/1/"):
        assert (await lab.get(path)).status_code == 200


async def test_a_defect_says_no_more_than_that() -> None:
    def fail(_request: Any, _call: Any) -> Any:
        raise RuntimeError("password=hunter2")

    async with client(rest_app(serve(service(ASK, RPCS, "LAB"), fail))) as web:
        answer = await web.get("/api/v1/pages/1")
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal Server Error"})
    assert answer.headers["x-request-id"]


async def test_preflights_are_answered_on_every_path(lab: httpx.AsyncClient) -> None:
    asked = {"access-control-request-method": "PUT", "access-control-request-headers": "authorization,x-other"}
    for path in ("/api/v1/pages/1", "/api/v1/nope"):
        answer = await lab.options(path, headers={"origin": APP, **asked})
        assert (answer.status_code, answer.text) == (200, "OK")
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["access-control-allow-headers"] == "authorization,x-other"
        assert answer.headers["vary"] == "Origin"
        answer = await lab.options(path, headers={"origin": "https://evil.example", **asked})
        assert (answer.status_code, answer.text) == (400, "Disallowed CORS origin")
        assert "access-control-allow-origin" not in answer.headers
    answer = await lab.get("/api/v1/pages/1?page=x", headers={"origin": APP})
    assert answer.headers["access-control-allow-origin"] == APP
    assert "X-Request-Id" in answer.headers["access-control-expose-headers"]


async def test_the_rate_counts_whatever_else_is_wrong_and_its_refusal_can_be_read_by_pages() -> None:
    rpcs = serve(service(ASK, RPCS, "LAB"), lambda request, _call: request)
    async with client(rest_app(rpcs, limits=True), peer=("127.0.0.1", 1)) as web:
        forged = {"x-forwarded-for": "203.0.113.77", "origin": APP}
        for path in ("/api/v1/nope", "/api/v1/pages/1?page=x", "/api/v1/pages/1") * 100:
            assert (await web.get(path, headers=forged)).status_code != 429
        for path in ("/api/v1/nope", "/api/v1/pages/1"):
            answer = await web.get(path, headers=forged)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
            assert answer.json() == {"detail": "Too many requests. Please try again later."}
            assert answer.headers["access-control-allow-origin"] == APP
            assert UUID(answer.headers["x-request-id"]).version == 4
        real = {"x-real-ip": "203.0.113.78"}
        assert (await web.get("/api/v1/pages/1", headers=real)).status_code == 200


async def test_forwarded_addresses_of_strangers_are_not_believed() -> None:
    rpcs = serve(service(ASK, RPCS, "LAB"), lambda request, _call: request)
    app = rest_app(rpcs, limits=True, lab={"rate_limit_per_minute": 3})
    async with client(app, peer=("203.0.113.5", 1)) as web:
        statuses = [
            (await web.get("/api/v1/pages/1", headers={"x-forwarded-for": f"10.0.0.{n}", "x-real-ip": "10.0.0.1"})).status_code
            for n in range(4)
        ]
    assert statuses == [200, 200, 200, 429]
