"""The byte sequences that Home Assistant sends, and what it must get back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running

HEADERS = {"Content-Type": "application/json"}


@pytest.fixture
async def home(busbar: Running, alice: Person) -> httpx.AsyncClient:
    """Home Assistant with a key of Alice's."""
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, "boards:read", "pins:read", "pins:write")
    return busbar.http(key)


async def test_a_pin_that_was_never_written_is_200_with_nulls(home: httpx.AsyncClient, bench: Any) -> None:
    answer = await home.get(f"/api/ha/board/{bench.id}/pin/0")
    assert answer.status_code == 200
    assert answer.json() == {
        "boardId": bench.id, "pin": 0, "name": "V0", "label": "V0", "state": None, "value": None, "numeric": None,
        "is_on": None, "available": False, "updatedAt": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "headers", "state", "value", "is_on"),
    [
        (b"ON", {}, "1", 1, True),
        (b"OFF", {}, "0", 0, False),
        (b"on", {"Content-Type": "text/plain"}, "1", 1, True),
        (b'{"value": 1}', HEADERS, "1", 1, True),
        (b'{"value": 128.0 }', HEADERS, "128", 128, True),
        (b'{"value": 19.25 }', HEADERS, "19.25", 19.25, True),
        (b'{"state": "Off"}', HEADERS, "0", 0, False),
        (b'{"value": true}', HEADERS, "1", 1, True),
        (b"false", {}, "0", 0, False),
        (b"21.5", {}, "21.5", 21.5, True),
        (b'"ON"', {}, "1", 1, True),
        (b"hello there", {}, "hello there", "hello there", True),
        (b"no", {}, "no", "no", False),
        (b"NaN", {}, "NaN", "NaN", True),
        (b'{"value": null}', HEADERS, "", None, False),
        (b"ON", {"Content-Type": "application/x-www-form-urlencoded"}, "1", 1, True),
    ],
)
async def test_whatever_is_sent_is_written(
    home: httpx.AsyncClient, bench: Any, content: bytes, headers: dict[str, str], state: str, value: object, is_on: bool
) -> None:
    path = f"/api/ha/board/{bench.id}/pin/V1"
    written = await home.post(path, content=content, headers=headers)
    assert written.status_code == 200
    body = written.json()
    assert (body["state"], body["value"], body["is_on"]) == (state, value, is_on)
    assert (await home.get(path)).json() == body


async def test_on_comes_without_a_content_type(home: httpx.AsyncClient, bench: Any) -> None:
    request = home.build_request("POST", f"/api/ha/board/{bench.id}/pin/1", content=b"ON")
    assert "content-type" not in request.headers
    assert (await home.send(request)).json()["value"] == 1


async def test_its_requests_are_answered_byte_for_byte_on_one_connection(
    busbar: Running, alice: Person, home: httpx.AsyncClient, bench: Any
) -> None:
    """The switch looks before it is made, sends its bodies with and without a type, and looks again; so does the number."""
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, "pins:read", "pins:write")
    head = f"HTTP/1.1\r\nHost: plynx\r\nAuthorization: Bearer {key}\r\nUser-Agent: HomeAssistant/2025.4.4 aiohttp/3.11.16\r\n"
    head += "Accept: */*\r\nAccept-Encoding: identity\r\n"
    path, typed = f"/api/ha/board/{bench.id}/pin/1", "Content-Type: application/json\r\n"
    sent = [
        (f"GET {path} {head}\r\n", None),
        (f"POST {path} {head}Content-Length: 2\r\n\r\nON", 1),
        (f"GET {path} {head}\r\n", 1),
        (f"POST {path} {head}Content-Length: 3\r\n\r\nOFF", 0),
        (f'POST {path} {head}{typed}Content-Length: 12\r\n\r\n{{"value": 1}}', 1),
        (f'POST {path} {head}{typed}Content-Length: 17\r\n\r\n{{"value": 128.0 }}', 128),
        (f'POST {path} {head}{typed}Content-Length: 17\r\n\r\n{{"value": 19.25 }}', 19.25),
        (f"GET {path} {head}\r\n", 19.25),
    ]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(busbar.url.rpartition(":")[2]))
    async with asyncio.timeout(20):
        for request, value in sent:
            writer.write(request.encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert answer.startswith("http/1.1 200 ")
            length = int(answer.partition("content-length: ")[2].partition("\r\n")[0])
            assert json.loads(await reader.readexactly(length))["value"] == value
    writer.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_switch_may_pick_its_method(home: httpx.AsyncClient, bench: Any, method: str) -> None:
    assert (await home.request(method, f"/api/ha/board/{bench.id}/pin/1", content=b"ON")).status_code == 200


async def test_an_empty_body_takes_the_query(home: httpx.AsyncClient, bench: Any) -> None:
    path = f"/api/ha/board/{bench.id}/pin/1"
    assert (await home.post(path)).status_code == 400
    assert (await home.post(path, params={"value": "ON"})).json()["value"] == 1
    assert (await home.post(path, params={"value": "3.5"})).json()["value"] == 3.5


@pytest.mark.parametrize(
    "content",
    [b"x" * 1025, b"\xff\xfe", b"{}", b"[1]", b'{"value": [1]}', b'{"value": {"a": 1}}', b'{"value": 1, "value": 2}'],
)
async def test_what_is_no_value_is_400_and_changes_nothing(home: httpx.AsyncClient, bench: Any, content: bytes) -> None:
    answer = await home.post(f"/api/ha/board/{bench.id}/pin/1", content=content)
    assert answer.status_code == 400
    assert not {"numeric", "is_on", "state"} & set(answer.json())
    assert (await home.get(f"/api/ha/board/{bench.id}/pin/1")).json()["state"] is None


@pytest.mark.parametrize(("text", "numeric"), [("1e3", 1000), ("-0.5", -0.5), ("inf", None), ("0x10", None), ("1_000", None),
                                               ("", None), ("12 V", None)])  # fmt: skip
async def test_numeric_is_a_finite_decimal_or_null(
    busbar: Running, alice: Person, home: httpx.AsyncClient, bench: Any, text: str, numeric: float | None
) -> None:
    await busbar.http(alice.session).put(f"/api/boards/{bench.id}/pins/2", json={"value": text})
    assert (await home.get(f"/api/ha/board/{bench.id}/pin/2")).json()["numeric"] == numeric


async def test_the_list_shows_boards_and_written_pins(home: httpx.AsyncClient, bench: Any) -> None:
    await home.post(f"/api/ha/board/{bench.id}/pin/0", content=b"21.5")
    boards = (await home.get("/api/ha/boards")).json()["boards"]
    assert [board["id"] for board in boards] == [bench.id]
    assert set(boards[0]) == {"id", "name", "boardType", "available", "lastSeenAt", "pins"}
    pin = boards[0]["pins"][0]
    assert pin["suggested"] == {"platform": "sensor", "min": None, "max": None, "step": None}
    assert (pin["pin"], pin["state"], pin["numeric"], pin["is_on"]) == (0, "21.5", 21.5, True)


WIDGETS = [
    {"type": "GAUGE", "pinIndex": 0},
    {"type": "BUTTON", "pinIndex": 1, "config": {"mode": "switch"}},
    {"type": "SLIDER", "pinIndex": 2, "min": 0, "max": 255, "step": 0.5},
    {"type": "STEP", "pinIndex": 3, "max": 9},
    {"type": "BUTTON", "pinIndex": 4, "config": {"mode": "push"}},
    {"type": "SLIDER", "pinIndex": 5, "pinType": "analog"},
    {"type": "LED", "pinIndex": 6},
]


async def test_the_widget_of_a_pin_says_what_it_could_be(
    busbar: Running, alice: Person, home: httpx.AsyncClient, bench: Any
) -> None:
    user = busbar.http(alice.session)
    project = (await user.post("/api/projects", json={"name": "Bench"})).json()["id"]
    await user.post(f"/api/projects/{project}/boards/{bench.id}")
    widgets = [{**widget, "boardId": bench.id} for widget in WIDGETS]
    assert (await user.put(f"/api/projects/{project}/widgets", json={"widgets": widgets})).status_code == 200
    for pin in range(8):
        await user.put(f"/api/boards/{bench.id}/pins/{pin}", json={"value": pin > 5})
    board = (await home.get("/api/ha/boards")).json()["boards"][0]
    assert [tuple(pin["suggested"].values()) for pin in board["pins"]] == [
        ("sensor", None, None, None),
        ("switch", None, None, None),
        ("number", 0, 255, 0.5),
        ("number", None, 9, None),
        ("sensor", None, None, None),
        ("binary_sensor", None, None, None),
        ("sensor", None, None, None),
        ("binary_sensor", None, None, None),
    ]


async def test_the_write_counts_as_home_assistants(busbar: Running, alice: Person, home: httpx.AsyncClient, bench: Any) -> None:
    await home.post(f"/api/ha/board/{bench.id}/pin/0", content=b"ON")
    assert (await busbar.http(alice.session).get(f"/api/boards/{bench.id}/pins/0")).json()["updatedBy"] == "ha"


async def test_scopes_and_boards_of_the_key_bind(busbar: Running, alice: Person, eve: Person, bench: Any) -> None:
    reader = busbar.http(await busbar.key(alice, CredentialKind.AGENT_KEY, "pins:read"))
    path = f"/api/ha/board/{bench.id}/pin/0"
    assert (await reader.get(path)).status_code == 200
    assert (await reader.post(path, content=b"ON")).status_code == 403
    assert (await reader.get("/api/ha/boards")).status_code == 403
    stranger = busbar.http(await busbar.key(eve, CredentialKind.AGENT_KEY))
    assert (await stranger.get(path)).status_code == 404
    assert (await busbar.http(alice.session).get(path)).status_code == 401
    assert (await busbar.http().get(path)).status_code == 401


@pytest.mark.parametrize("pin", ["256", "-1", "x"])
async def test_a_pin_out_of_range_is_400(home: httpx.AsyncClient, bench: Any, pin: str) -> None:
    assert (await home.get(f"/api/ha/board/{bench.id}/pin/{pin}")).status_code == 400
