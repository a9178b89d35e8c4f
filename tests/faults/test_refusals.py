"""What a bad request gets, word for word: status and body by surface. Each case leaves the server as it was."""

from __future__ import annotations

import gzip
import json
from typing import Any

import grpc
import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.maker.v1.pins_pb import ReadPinRequest
from gen.busbar.maker.v1.pins_pb_grpc import PinServiceClient
from tests.conftest import Person
from tests.faults.conftest import Target, assert_tells_nothing

MIB = 1 << 20
DEEP = "[" * 101 + "]" * 101
JSON = {"content-type": "application/json"}
GZIP = {"content-encoding": "gzip"}
NOBODY, UNKNOWN = "authentication required", "invalid or expired credential"
POINT: dict[str, Any] = {"metric": "m", "value": 1}
NO_PIN = "value: must be null, a boolean, a finite number or a string of at most 1024 characters"


def told(answer: httpx.Response, status: int, body: dict[str, str]) -> None:
    """Check an answer word for word."""
    assert (answer.status_code, answer.json()) == (status, body)
    assert answer.headers["content-type"] == "application/json"
    assert_tells_nothing(answer.text)


def sentence(text: str) -> dict[str, str]:
    """Return the body of devices, who look for the sentence in either member."""
    return {"error": text, "message": text}


def ingest(**point: Any) -> bytes:
    """Return a body of two points, of which the second is odd."""
    return json.dumps({"source_id": "rig-1", "points": [POINT, {**POINT, **point}]}).encode()


INGEST: dict[str, tuple[bytes, int, str]] = {
    "malformed": (b'{"points": [', 400, "body is not valid JSON"),
    "empty": (b"", 400, "body is not valid JSON"),
    "bad UTF-8": (b'{"source_id": "r", "points": [{"metric": "\xff", "value": 1}]}', 400, "body is not valid JSON"),
    "no object": (b"[]", 400, "body must be a JSON object"),
    "no list": (b'{"points": "x"}', 400, "points: expected array, got string"),
    "wrong type": (ingest(metric=5), 400, "points[1].metric: expected string, got number"),
    "wrong time": (ingest(timestamp="now"), 400, "points[1].timestamp: expected number, got string"),
    "wrong tags": (ingest(tags=5), 400, "points[1].tags: expected object, got number"),
    "unknown enum": (ingest(**{"class": "odd"}), 400, "points[1].class: must be metric or event"),
    "null": (ingest(value=None), 400, "points[1].value: required; null is no value"),
    "NaN": (b'{"source_id": "r", "points": [{"metric": "m", "value": NaN}]}', 400, "body is not valid JSON"),
    "infinity": (ingest().replace(b'"value": 1}]', b'"value": 1e999}]'), 400, "points[1].value: number out of range"),
    "100 deep": (ingest().replace(b'"value": 1}]', b'"value": ' + DEEP.encode() + b"}]"), 400,
                 "points[1].value: nested too deeply (max 64)"),
    "10,001 points": (json.dumps({"source_id": "r", "points": [POINT] * 10_001}).encode(), 400,
                      "too many points: 10001 (max 10000)"),
    "5 MiB + 1": (b" " * (5 * MIB + 1), 413, "request body is larger than 5242880 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/ingest", "/api/ingest"])
@pytest.mark.parametrize("case", INGEST)
async def test_devices_are_told_what_is_wrong_with_their_points(target: Target, case: str, path: str) -> None:
    body, status, text = INGEST[case]
    told(await target.device().post(path, content=body), status, sentence(text))


async def test_a_compressed_body_is_bounded_by_what_comes_out_of_it(target: Target) -> None:
    bomb = gzip.compress(bytes(20 * MIB))
    device, user = target.device(**GZIP), target.user(**GZIP)
    told(await device.post("/ingest", content=bomb), 413, sentence("request body is larger than 5242880 bytes"))
    told(await device.post("/ingest", content=b"nope"), 400, sentence("request body is not valid gzip"))
    told(await user.post("/api/boards", content=bomb), 413, {"error": "request body is larger than 1048576 bytes"})


PINS: dict[str, tuple[bytes, int, str]] = {
    "malformed": (b"{", 400, "request body is not valid JSON: unexpected end of data at 1"),
    "bad UTF-8": (b'{"value": "\xff"}', 400, "request body is not valid UTF-8 at 11"),
    "NaN": (b'{"value": NaN}', 400, "request body is not valid JSON: unexpected character, expected a JSON value at 10"),
    "twice": (b'{"value": 1, "value": 2}', 400, "request body names 'value' twice"),
    "100 deep": (f'{{"value": {DEEP}}}'.encode(), 400, "request body is nested too deeply"),
    "no object": (b"[1]", 400, "request body must be a JSON object"),
    "nothing": (b"{}", 400, "value: required"),
    "an object": (b'{"value": {}}', 400, NO_PIN),
    "too long": (json.dumps({"value": "x" * 1025}).encode(), 400, NO_PIN),
    "1 MiB + 1": (b" " * (MIB + 1), 413, "request body is larger than 1048576 bytes"),
}
BOARDS: dict[str, tuple[bytes, int, str]] = {
    "wrong type": (b'{"name": 5}', 400, "name: must be a string"),
    "unknown enum": (b'{"name": "a", "connectionType": "pigeon"}', 400,
                     "connectionType: must be one of wifi, ethernet, gsm, usb, ble"),
    "null": (b'{"name": null}', 400, "name: must be 1-80 characters"),
    "too long": (json.dumps({"name": "x" * 81}).encode(), 400, "name: must be 1-80 characters"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("cases", "case"), [(c, name) for c in ("pins", "boards") for name in {"pins": PINS, "boards": BOARDS}[c]]
)
async def test_makers_are_told_what_is_wrong_with_their_request(target: Target, cases: str, case: str) -> None:
    body, status, text = (PINS if cases == "pins" else BOARDS)[case]
    method, path = ("PUT", target.pin) if cases == "pins" else ("POST", "/api/boards")
    told(await target.user().request(method, path, content=body, headers=JSON), status, {"error": text})


async def test_what_is_asked_in_the_wrong_way_is_told_how_to_ask(target: Target) -> None:
    user = target.user()
    other = await user.post("/api/boards", content=b"x", headers={"content-type": "text/plain"})
    told(other, 415, {"error": "content type text/plain is not supported, use application/json"})
    told(await user.put("/api/boards"), 405, {"error": "method not allowed, use GET, HEAD, OPTIONS, POST"})
    told(await user.get("/api/nope"), 404, {"error": "not found"})
    query = "&".join(f"a{number}=1" for number in range(1001))
    told(await user.get(f"/api/boards?{query}"), 400, {"error": "the query string has more than 1000 parameters"})


@pytest.mark.parametrize("climbing", ["..%2fauth", "%2e%2e", "a%00b", "%ff", "..;%2f", "x" * 65, "nothing"])
async def test_an_id_that_is_none_is_404_like_one_that_does_not_exist(target: Target, climbing: str) -> None:
    for answer in (
        await target.user().get(f"/api/boards/{climbing}"),
        await target.user().put(f"/api/boards/{climbing}/pins/1", json={"value": 1}),
    ):
        assert answer.json()["error"] in ("board not found", "not found")
        told(answer, 404, answer.json())


async def test_credentials_that_do_not_count_are_refused_alike_at_every_http_door(target: Target) -> None:
    busbar, past = target.busbar, target.busbar.clock.now_us() - 1
    expired = await busbar.key(target.alice, CredentialKind.AGENT_KEY, expires_us=past)
    dead = await busbar.key(target.alice, CredentialKind.TELEMETRY_KEY, "write", expires_us=past)
    home = f"/api/ha/board/{target.board.id}/pin/1"
    bearers = {None: NOBODY, "nonsense": UNKNOWN, expired: UNKNOWN}
    for path, other in ((target.pin, target.agent), (home, target.alice.session), ("/api/boards", target.board.device_token)):
        for bearer, text in {**bearers, other: UNKNOWN}.items():
            headers = {"authorization": f"Bearer {bearer}"} if bearer else {"x-nobody": "1"}
            answer = await busbar.http(**headers).get(path)
            told(answer, 401, {"error": text})
            assert answer.headers.get("www-authenticate") == ("Bearer" if path == home else None)
    for key, text in {"": NOBODY, "nonsense": UNKNOWN, dead: UNKNOWN, target.agent: UNKNOWN}.items():
        device = busbar.http(**{"x-api-key": key} if key else {"x-nobody": "1"})
        told(await device.post("/ingest", json={"points": []}), 401, sentence(text))
        told(await device.get("/api/auth/verify-key"), 401, sentence(text))
        told(await device.get("/api/sources"), 401, {"error": "UNAUTHORIZED", "message": text})


async def test_things_of_others_do_not_exist(target: Target, eve: Person) -> None:
    theirs = target.busbar.http(authorization=f"Bearer {eve.session}")
    told(await theirs.get(target.pin), 404, {"error": "board not found"})
    told(await theirs.put(target.pin, json={"value": 1}), 404, {"error": "board not found"})
    told(await theirs.delete(f"/api/boards/{target.board.id}"), 404, {"error": "board not found"})


async def test_grpc_refuses_in_the_same_words(target: Target, eve: Person) -> None:
    async with grpc.aio.insecure_channel(target.busbar.server.grpc_address) as channel:
        pins = PinServiceClient(channel)
        for credential, board_id, code, text in (
            (None, target.board.id, grpc.StatusCode.UNAUTHENTICATED, NOBODY),
            ("nonsense", target.board.id, grpc.StatusCode.UNAUTHENTICATED, UNKNOWN),
            (eve.session, target.board.id, grpc.StatusCode.NOT_FOUND, "board not found"),
            (target.alice.session, "../etc/passwd", grpc.StatusCode.NOT_FOUND, "board not found"),
        ):
            metadata = (("authorization", f"Bearer {credential}"),) if credential else ()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await pins.read_pin(ReadPinRequest(board_id=board_id, pin_index=1), metadata=metadata, timeout=20)
            assert (refused.value.code(), refused.value.details()) == (code, text)
