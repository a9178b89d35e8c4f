"""What answers look like: members, headers, cookies, redirects, ids."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from core.kernel.call import Call
from core.kernel.errors import PreconditionFailed
from core.kernel.rpc import BindingError
from tests.rest.fakes import ALICE, DEVICE, World, client, fake_rpcs, rest_app
from tests.rest.protos import serve, service

MESSAGES = """
enum Mood { MOOD_UNSPECIFIED = 0; MOOD_GOOD = 1; }
message Leaf { optional string name = 1; double size = 2; }
message Answer {
  int32 revision = 1;
  map<string, Leaf> leaves = 2;
  map<int32, google.protobuf.ListValue> lists = 3;
  Mood mood = 4;
  google.protobuf.Struct object = 5;
  google.protobuf.Duration wait = 6;
  bytes data = 7;
  oneof choice { string text = 8; Leaf leaf = 9; }
  google.protobuf.Timestamp made_at = 10;
  string odd_name = 11 [json_name = "OddName"];
  Answer inside = 12;
  repeated google.protobuf.Value values = 13;
}
"""
RPC = 'Echo(Answer) returns (Answer) {%s: "/api/v1/echo" body: "*"}'
FULL = {
    "revision": 3,
    "leaves": {"a": {"size": 10}, "b": {"name": "", "size": 0.5}},
    "lists": {"1": [1, None, {"x": 2}]},
    "mood": "MOOD_GOOD",
    "object": {"a": 1, "b": [1.5, "x"]},
    "wait": "1.500s",
    "data": "aGk=",
    "leaf": {"size": 1},
    "madeAt": "2026-01-31T12:00:00Z",
    "OddName": "x",
    "inside": {"text": "y"},
    "values": [None, 1, "z"],
}


def echo(surface: str) -> httpx.AsyncClient:
    desc = service(MESSAGES, RPC % "post", surface)
    return client(rest_app(serve(desc, lambda request, _call: request)))


async def test_makers_get_every_member_and_null_for_what_is_absent() -> None:
    answer = await echo("MAKER").post("/api/v1/echo", json=FULL)
    body = answer.json()
    inside = body.pop("inside")
    assert body == {
        **{name: value for name, value in FULL.items() if name != "inside"},
        "leaves": {"a": {"name": None, "size": 10}, "b": {"name": "", "size": 0.5}},
        "leaf": {"name": None, "size": 1},
        "madeAt": "2026-01-31T12:00:00.000Z",
    }
    assert inside == {
        "revision": 0,
        "leaves": {},
        "lists": {},
        "mood": "MOOD_UNSPECIFIED",
        "object": None,
        "wait": None,
        "data": "",
        "text": "y",
        "madeAt": None,
        "OddName": "",
        "inside": None,
        "values": [],
    }


async def test_whole_numbers_are_written_as_they_came_and_in_the_lab_with_a_fraction() -> None:
    assert b'"size":10}' in (await echo("MAKER").post("/api/v1/echo", json=FULL)).content
    lab = await echo("LAB").post("/api/v1/echo", json={**FULL, "madeAt": "2026-01-31T12:00:00.000250Z"})
    assert b'"size":10.0}' in lab.content
    assert (lab.json()["made_at"], lab.json()["OddName"]) == ("2026-01-31T12:00:00.000250Z", "x")
    assert (await echo("LAB").post("/api/v1/echo", json=FULL)).json()["made_at"] == "2026-01-31T12:00:00Z"


async def test_telemetry_leaves_absent_members_out_and_keeps_declared_names(web: httpx.AsyncClient) -> None:
    answer = await web.get("/api/v1/telemetry", headers=DEVICE)
    assert answer.json() == {
        "count": 1,
        "data": [
            {"source_id": "s", "metric": "m", "value": {"a": [1, 2.5]}, "timestamp": 0, "class": "", "tags": {"k": "v"}},
        ],
    }


async def test_an_answer_with_a_revision_has_an_entity_tag() -> None:
    answer = await echo("MAKER").post("/api/v1/echo", json=FULL)
    assert answer.headers["etag"] == '"3"'


async def test_an_rpc_may_name_the_field_that_is_its_revision() -> None:
    rpc = 'Save(Answer) returns (Answer) {post: "/save" body: "*" response_body: "values"} | '
    desc = service(MESSAGES, rpc + 'option (busbar.api.v1.rest) = {revision: "odd_name"};')
    async with client(rest_app(serve(desc, lambda request, _call: request))) as web:
        answer = await web.post("/save", json={"OddName": "b7", "revision": 3, "values": [1]})
    assert (answer.headers["etag"], answer.json()) == ('"b7"', [1])
    for wrong in ("nope", "text", "values"):
        desc = service(MESSAGES, f'{rpc}option (busbar.api.v1.rest) = {{revision: "{wrong}"}};')
        with pytest.raises(BindingError, match=f"{wrong} is its revision"):
            rest_app(serve(desc, lambda request, _call: request))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_has_the_present_revision_is_not_sent_it_again(method: str) -> None:
    desc = service(MESSAGES, 'Read(Answer) returns (Answer) {get: "/read"}')
    async with client(rest_app(serve(desc, lambda request, _call: request))) as web:
        for known in ('"3"', 'W/"3"', '"2", "3"', "*"):
            answer = await web.request(method, "/read?revision=3", headers={"if-none-match": known})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"3"'), known
            assert not {"content-type", "content-length"} & answer.headers.keys()
        for stale in ('"2"', "3", ""):
            answer = await web.request(method, "/read?revision=3", headers={"if-none-match": stale})
            assert (answer.status_code, answer.headers["etag"]) == (200, '"3"'), stale


async def test_if_match_reaches_the_service_and_a_stale_one_is_412() -> None:
    desc = service(MESSAGES, RPC % "put")
    seen: list[str | None] = []

    def save(request: Any, call: Call) -> Any:
        seen.append(call.if_match)
        if call.if_match not in (None, "3"):
            raise PreconditionFailed("the document is at revision 3")
        return request

    async with client(rest_app(serve(desc, save))) as web:
        statuses = [
            (await web.put("/api/v1/echo", json=FULL, headers=headers)).status_code
            for headers in ({}, {"if-match": '"3"'}, {"if-match": 'W/"3"'}, {"if-match": '"2"'})
        ]
    assert (statuses, seen) == ([200, 200, 200, 412], [None, "3", "3", "2"])


async def test_the_declared_status_and_headers_are_sent(web: httpx.AsyncClient) -> None:
    answer = await web.post("/api/boards", json={"name": "x"}, headers=ALICE)
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == ("application/json", "nosniff")
    assert "cache-control" not in (await web.get("/api/boards", headers=ALICE)).headers


async def test_a_service_may_choose_another_status_and_add_headers(web: httpx.AsyncClient, world: World) -> None:
    def dress(call: Call) -> None:
        call.status = 202
        call.headers.append(("Content-Language", "en"))

    world.dress = dress
    answer = await web.get("/api/boards", headers=ALICE)
    assert (answer.status_code, answer.headers["content-language"]) == (202, "en")


async def test_a_service_may_redirect(web: httpx.AsyncClient, world: World) -> None:
    def dress(call: Call) -> None:
        call.location = "https://idp.example/authorize?x=1"

    world.dress = dress
    answer = await web.get("/api/boards", headers=ALICE)
    assert (answer.status_code, answer.headers["location"], answer.content) == (302, "https://idp.example/authorize?x=1", b"")


async def test_no_content_has_no_body() -> None:
    desc = service("message Ask {}", 'Drop(Ask) returns (Ask) {delete: "/x"} | option (busbar.api.v1.rest) = {success: 204};')
    async with client(rest_app(serve(desc, lambda request, _call: request))) as web:
        answer = await web.delete("/x")
    assert (answer.status_code, answer.content, "content-length" in answer.headers) == (204, b"", False)


@pytest.mark.parametrize(("public_url", "secure"), [("", ""), ("http://bus.example", ""), ("https://bus.example", "; Secure")])
async def test_cookies_are_out_of_reach_for_scripts(world: World, public_url: str, secure: str) -> None:
    async with client(rest_app(fake_rpcs(world), public_url=public_url)) as web:
        answer = await web.post("/api/auth/login", json={"email": "a@b", "password": "x"})
    assert answer.headers["set-cookie"] == f"plynx_session=t; HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000{secure}"


async def test_a_cookie_set_behind_a_proxy_that_speaks_tls_is_for_https_only(world: World) -> None:
    async with client(rest_app(fake_rpcs(world)), peer=("127.0.0.1", 5)) as web:
        headers = {"x-forwarded-proto": "https"}
        answer = await web.post("/api/auth/login", json={"email": "a@b", "password": "x"}, headers=headers)
    assert answer.headers["set-cookie"].endswith("; Secure")


async def test_a_sane_request_id_comes_back_and_reaches_the_service(web: httpx.AsyncClient, world: World) -> None:
    answer = await web.get("/api/boards", headers={**ALICE, "x-request-id": "trace-1"})
    assert (answer.headers["x-request-id"], world.call.request_id) == ("trace-1", "trace-1")


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, 'a"b'])
async def test_any_other_request_id_is_replaced(web: httpx.AsyncClient, sent: str) -> None:
    for path in ("/api/boards", "/nope", "/docs"):
        answer = await web.get(path, headers={**ALICE, "x-request-id": sent})
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_the_lab_gives_every_answer_a_fresh_uuid() -> None:
    answer = await echo("LAB").post("/api/v1/echo", json={}, headers={"x-request-id": "mine"})
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", answer.headers["x-request-id"])


async def test_head_has_the_headers_of_get_and_no_body(web: httpx.AsyncClient) -> None:
    head, get = await web.head("/api/boards", headers=ALICE), await web.get("/api/boards", headers=ALICE)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


async def test_health_is_json_or_the_text_that_was_asked_for(web: httpx.AsyncClient) -> None:
    health = (await web.get("/health", headers={"accept": "*/*"})).json()
    assert health == {
        "status": "ok",
        "version": "1",
        "database": "",
        "last_datapoint": None,
        "uptime_seconds": 1.5,
        "devices": 0,
        "browsers": 0,
        "uptime_s": 0,
    }
    assert (await web.get("/health", headers={"accept": "text/plain"})).text == "OK"
