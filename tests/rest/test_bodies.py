"""Sizes, compression and media types of bodies."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.rest.fakes import ALICE, DEVICE, World

LIMIT = 5_242_880
GZIP = {**DEVICE, "content-encoding": "gzip"}


async def test_ingest_hands_the_service_the_body_as_it_came(web: httpx.AsyncClient, world: World) -> None:
    body = b'{"points": [ {"metric": 5} ], "points": []}'
    answer = await web.post("/ingest", content=body, headers={**DEVICE, "content-type": "text/plain"})
    assert answer.json() == {"success": True, "count": 1, "persisted": True, "persistedCount": 1, "dropped": 0}
    assert world.call.raw == body
    assert world.request.points == []


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
async def test_a_compressed_body_is_inflated(web: httpx.AsyncClient, world: World, encoding: str) -> None:
    body = gzip.compress(b'{"points": []}') + gzip.compress(b"   ")
    assert (await web.post("/api/ingest", content=body, headers={**DEVICE, "content-encoding": encoding})).status_code == 200
    assert world.call.raw == b'{"points": []}   '


async def test_json_operations_inflate_too(web: httpx.AsyncClient, world: World) -> None:
    headers = {**ALICE, "content-encoding": "gzip", "content-type": "application/json"}
    assert (await web.post("/api/boards", content=gzip.compress(b'{"name": "x"}'), headers=headers)).status_code == 201
    assert world.request.name == "x"


@pytest.mark.parametrize(
    "body", [b"not gzip", gzip.compress(b"{}" * 500, mtime=0)[:-9], gzip.compress(b"{}", mtime=0) + b"tail"]
)
async def test_damaged_compression_is_refused(web: httpx.AsyncClient, body: bytes) -> None:
    answer = await web.post("/api/ingest", content=body, headers=GZIP)
    assert (answer.status_code, answer.json()["error"]) == (400, "request body is not valid gzip")


async def test_a_bomb_is_stopped_while_it_inflates(web: httpx.AsyncClient, world: World) -> None:
    bomb = gzip.compress(b"0" * (LIMIT + 1))
    assert len(bomb) < 10_000
    answer = await web.post("/api/ingest", content=bomb, headers=GZIP)
    assert (answer.status_code, answer.json()["error"]) == (413, f"request body is larger than {LIMIT} bytes")
    assert world.calls == []


async def test_a_body_at_the_limit_passes(web: httpx.AsyncClient, world: World) -> None:
    assert (await web.post("/api/ingest", content=b" " * LIMIT, headers=DEVICE)).status_code == 200
    assert (await web.post("/api/ingest", content=gzip.compress(b" " * LIMIT), headers=GZIP)).status_code == 200
    assert len(world.call.raw or b"") == LIMIT


async def test_a_stated_length_over_the_limit_is_refused_before_a_byte_is_read(web: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    for length in (str(LIMIT + 1), "9" * 400):
        answer = await web.post("/api/ingest", content=body(), headers={**DEVICE, "content-length": length})
        assert answer.status_code == 413


async def test_a_body_without_a_length_is_cut_off_at_the_limit(web: httpx.AsyncClient) -> None:
    sent: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            sent.append(1_000_000)
            yield b" " * 1_000_000

    answer = await web.post("/api/ingest", content=body(), headers=DEVICE)
    assert (answer.status_code, len(sent)) == (413, 6)


async def test_a_length_that_is_no_number_is_refused(web: httpx.AsyncClient) -> None:
    answer = await web.post("/api/boards", content=b"{}", headers={**ALICE, "content-length": "-1"})
    assert (answer.status_code, answer.json()) == (400, {"error": "Content-Length must be a number"})


@pytest.mark.parametrize("kind", [None, "application/json", "application/json; charset=utf-8", "application/merge-patch+json"])
async def test_json_and_no_type_at_all_are_taken(web: httpx.AsyncClient, kind: str | None) -> None:
    headers = ALICE if kind is None else {**ALICE, "content-type": kind}
    assert (await web.post("/api/boards", content='{"name": "x"}', headers=headers)).status_code == 201


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({"content-type": "text/plain"}, "content type text/plain is not supported, use application/json"),
        ({"content-encoding": "br"}, "content encoding br is not supported, use gzip or identity"),
    ],
)
async def test_other_types_are_not_supported(web: httpx.AsyncClient, headers: dict[str, str], sentence: str) -> None:
    answer = await web.post("/api/boards", content='{"name": "x"}', headers={**ALICE, **headers})
    assert (answer.status_code, answer.json()) == (415, {"error": sentence})


async def test_identity_is_no_compression(web: httpx.AsyncClient) -> None:
    headers = {**ALICE, "content-encoding": "identity"}
    assert (await web.post("/api/boards", content='{"name": "x"}', headers=headers)).status_code == 201


async def test_a_body_where_none_is_asked_for_is_ignored(web: httpx.AsyncClient) -> None:
    answer = await web.request("DELETE", "/api/boards/b1", content=b"x", headers={**ALICE, "content-type": "text/plain"})
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
