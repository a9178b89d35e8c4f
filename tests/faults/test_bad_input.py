"""Input that no honest client sends, against every HTTP door and MCP; each case leaves the server as it was."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.faults.conftest import Target, assert_tells_nothing, refused

GET = b"GET /api/boards HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
MIB = 1024 * 1024
DEEP = "[" * 101 + "]" * 101


# Floods


@pytest.mark.parametrize(
    "flood",
    [b"X-Flood: " + b"a" * 100_000, b"X-Flood: a\r\n" * 20_000, b"X-Flood: " + b"a" * 8 * MIB, b"X" * 100_000 + b": a"],
    ids=["long", "many", "huge", "long name"],
)
async def test_headers_without_end_are_refused(target: Target, flood: bytes) -> None:
    answer = await target.raw(GET + flood + b"\r\n\r\n")
    # Who is still sending when the connection closes may not get to read why.
    assert answer[:13] in (b"HTTP/1.1 431 ", b"")


async def test_a_header_that_never_ends_is_cut_off(target: Target) -> None:
    assert (await target.raw(GET + b"X-Flood: " + b"a" * 200_000))[:13] in (b"HTTP/1.1 431 ", b"")


@pytest.mark.parametrize("size", [70_000, 1_000_000])
async def test_paths_and_queries_without_end_are_refused(target: Target, size: int) -> None:
    for line in (b"/api/boards/" + b"a" * size, b"/api/boards?" + b"a=1&" * (size // 4)):
        answer = await target.raw(b"GET " + line + b" HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 414", b"HTTP/1.1 431", b"")


async def test_a_query_of_thousands_of_names_is_answered(target: Target) -> None:
    answer = await target.device().get("/api/v1/telemetry?" + "&".join(f"a{number}=1" for number in range(5_000)))
    assert answer.status_code in (200, 400)


@pytest.mark.parametrize(
    "bytes_",
    [
        b"\x00\xff\x16\x03\x01 garbage\r\n\r\n",
        b"GET /api/boards HTTP/9.9\r\n\r\n",
        b"POST /ingest HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /ingest HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /ingest HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /ingest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    ],
    ids=["no http", "version", "two lengths", "length and chunks", "negative length", "bad chunk"],
)
async def test_what_is_no_http_is_400(target: Target, bytes_: bytes) -> None:
    answer = await target.raw(bytes_)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401"))


# Ids


CLIMBING = (
    ["..", "../auth/session", "..%2fauth%2fsession", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "a%2fb", "a%00b", "%ff", "%",
     "%zz", "..;", "%5c..%5c", "brd_1%0d%0aX-Injected:%20yes", "'%20OR%201=1--", "*"]
)  # fmt: skip


async def test_an_id_cannot_climb(target: Target) -> None:
    credentials = f"Authorization: Bearer {target.alice.session}\r\n".encode()
    templates = ("/api/boards/{}", "/api/boards/{}/pins/1", "/api/ha/board/{}/pin/1", "/docs/{}")
    for path in (template.format(id_) for template in templates for id_ in CLIMBING):
        line = f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n".encode()
        answer = await target.raw(line + credentials + b"\r\n")
        assert answer[:12] in (b"HTTP/1.1 404", b"HTTP/1.1 400", b"HTTP/1.1 401"), answer
        assert b"x-injected" not in answer.lower().partition(b"\r\n\r\n")[0]
        assert b"root:" not in answer


async def test_a_source_cannot_have_a_name_that_climbs(target: Target) -> None:
    for source in ("../etc/passwd", "..", "a/b", "a\x00b", "a b", "é", "-a", "A"):
        body = {"source_id": source, "points": [{"metric": "m", "value": 1}]}
        refused(await target.device().post("/ingest", json=body), 400, "error", "message")


# JSON


async def test_json_of_a_hundred_levels_is_refused_on_every_door(target: Target) -> None:
    refused(await target.user().put(target.pin, content=f'{{"value": {DEEP}}}'), 400)
    refused(await target.user().put(target.pin, content=DEEP), 400)
    points = f'{{"source_id": "rig-1", "points": [{{"metric": "m", "value": {DEEP}}}]}}'
    refused(await target.device().post("/ingest", content=points), 400, "error", "message")
    call = f'{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {DEEP}}}'
    answer = await mcp(target, call)
    assert answer.status_code == 400 or "error" in answer.json(), answer.text


async def test_json_nested_ten_thousand_times_breaks_nothing(target: Target) -> None:
    deep = "[" * 10_000 + "]" * 10_000
    refused(await target.user().put(target.pin, content=deep), 400)
    refused(await target.device().post("/ingest", content=deep), 400, "error", "message")
    answer = await mcp(target, deep)
    assert answer.status_code == 400, answer.text
    assert_tells_nothing(answer.text)


async def mcp(target: Target, content: str | bytes) -> httpx.Response:
    return await target.busbar.http(authorization=f"Bearer {target.agent}").post("/mcp", content=content)


BAD_MEMBERS = (
    ("/api/boards", b'{"name": "\xff\xfe"}'),
    ("/api/boards", b'{"name": "\\ud800"}'),
    ("/api/boards", b'{"name": '),
    ("/api/boards", b'{"name": "a", "name": "b"}'),
    ("/api/boards", b'{"name": "a", "connectionType": "pigeon"}'),
    ("/api/boards", b'{"name": 5}'),
    ("/api/boards", b'{"name": null}'),
    ("/api/boards", b'["name"]'),
    ("/api/boards", b'{"name": "' + b"a" * 81 + b'"}'),
    ("/api/mcp/keys", b'{"name": "k", "scopes": ["everything"]}'),
    ("/api/mcp/keys", b'{"name": "k", "scopes": "*"}'),
    ("/api/auth/register", b'{"email": "nobody", "password": "correct horse"}'),
)


async def test_a_bad_member_is_400_and_makes_nothing(target: Target) -> None:
    for path, body in BAD_MEMBERS:
        refused(await target.user().post(path, content=body), 400)


async def test_what_is_no_scalar_is_no_pin(target: Target) -> None:
    for value in ("NaN", "Infinity", "-Infinity", "1e999", '"' + "x" * 1025 + '"', "{}", "[1]"):
        refused(await target.user().put(target.pin, content=f'{{"value": {value}}}'), 400)
        arguments = f'{{"boardId": "{target.board.id}", "pin": 1, "value": {value}}}'
        params = f'{{"name": "plynx_write_pin", "arguments": {arguments}}}'
        answer = await mcp(target, f'{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {params}}}')
        assert answer.status_code == 400 or answer.json().get("error") or answer.json()["result"]["isError"], answer.text
        assert_tells_nothing(answer.text)


async def test_what_is_no_request_is_refused_by_mcp(target: Target) -> None:
    for body in (b"", b"nope", b"\xff", b"[]", b"[{}]", b'"text"', b'{"jsonrpc": "1.0"}'):
        answer = await mcp(target, body)
        assert answer.status_code == 400, answer.text
        assert_tells_nothing(answer.text)


async def test_a_bad_page_is_400(target: Target) -> None:
    for query in ("limit=%ff", "limit=abc", "limit=99999999999999999999", "cursor=%00", "cursor=zzz"):
        refused(await target.user().get(f"/api/boards?{query}"), 400)


# Bodies


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 65_536):
        yield b" " * 65_536
    yield b" " * (size % 65_536)


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_chunked_body_over_the_limit_is_413(target: Target, compressed: bool) -> None:
    encoding = {"content-encoding": "gzip"} if compressed else {}
    for client, path, most, members in (
        (target.device(**encoding), "/ingest", 5 * MIB, ("error", "message")),
        (target.user(**encoding), "/api/boards", MIB, ("error",)),
    ):
        content: Any = gzip.compress(b" " * (most + 1)) if compressed else chunks(most + 1)
        refused(await client.post(path, content=content), 413, *members)


async def test_a_bomb_of_a_hundred_mebibytes_is_413(target: Target) -> None:
    bomb = gzip.compress(b"\0" * 100 * MIB)
    refused(await target.device(**{"content-encoding": "gzip"}).post("/ingest", content=bomb), 413, "error", "message")
    refused(await target.user(**{"content-encoding": "gzip"}).post("/api/boards", content=bomb), 413)


async def test_a_bomb_within_a_bomb_stays_packed(target: Target) -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 10 * MIB))
    refused(await target.device(**{"content-encoding": "gzip"}).post("/ingest", content=bomb), 400, "error", "message")
    double = await target.device(**{"content-encoding": "gzip, gzip"}).post("/ingest", content=bomb)
    refused(double, 415, "error", "message")
