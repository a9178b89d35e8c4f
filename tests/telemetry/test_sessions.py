"""Sessions in their present and in their older form."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.doors import Refused
from tests.telemetry.tokens import device_token

EPOCH = 1_700_000_000
START, LATER = "2023-11-14T22:13:20Z", "2023-11-14T22:14:20Z"


@pytest.fixture
async def device(busbar: Running, alice: Person) -> httpx.AsyncClient:
    """A client with a telemetry key that may write and read."""
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read")
    return busbar.http(**{"X-Api-Key": key})


async def save(device: httpx.AsyncClient, session_id: str = "s-1", *, expected: int = 201, **more: Any) -> dict[str, Any]:
    """Post a session and return what came back."""
    answer = await device.post("/api/sessions", json={"session_id": session_id, **more})
    assert answer.status_code == expected, answer.text
    assert answer.json()["success"] is True
    return answer.json()["session"]


async def change(device: httpx.AsyncClient, body: dict[str, Any], *, expected: int = 200) -> dict[str, Any]:
    """Patch the session and return the body."""
    answer = await device.patch("/api/sessions/s-1", json=body)
    assert answer.status_code == expected, answer.text
    return answer.json()


async def listed(device: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    """Return the sessions of a list."""
    answer = await device.get("/api/sessions", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["sessions"]


async def test_a_session_is_opened_once_and_then_returned(device: httpx.AsyncClient) -> None:
    opened = await save(device, name="First", source_id="rig-1", status="active")
    assert (opened["session_id"], opened["name"], opened["source_id"]) == ("s-1", "First", "rig-1")
    assert opened["status"] == "active"
    assert datetime.fromisoformat(opened["started_at"]).tzinfo is not None
    assert opened["ended_at"] is None
    again = await save(device, expected=200)
    assert (again["name"], again["source_id"], again["started_at"]) == ("First", "rig-1", opened["started_at"])
    assert len(await listed(device)) == 1


async def test_its_source_comes_into_being(device: httpx.AsyncClient) -> None:
    await save(device, source_id="rig-1")
    assert (await device.get("/api/sources/rig-1")).json()["source"]["status"] == "pending"


async def test_of_racing_requests_one_opens_the_session(device: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(device.post("/api/sessions", json={"session_id": "s-1"}) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 201]


async def test_points_open_the_session_that_they_name(device: httpx.AsyncClient) -> None:
    points = [{"metric": "m", "value": 1, "timestamp": EPOCH + n, "session_id": "s-1"} for n in (5, 0)]
    await device.post("/api/ingest", json={"source_id": "rig-1", "points": points})
    [session] = await listed(device)
    assert (session["session_id"], session["source_id"], session["status"]) == ("s-1", "rig-1", "active")
    assert session["started_at"] == START
    assert (await save(device, name="Named later", expected=200))["name"] == "Named later"
    assert (await change(device, {"status": "completed", "ended_at": LATER}))["session"]["duration"] == 60


async def test_completion_takes_the_time_that_is_given(device: httpx.AsyncClient) -> None:
    await save(device, timestamp=EPOCH)
    body = await change(device, {"status": "completed", "ended_at": LATER})
    assert body["success"] is True
    assert (body["session"]["status"], body["session"]["ended_at"]) == ("completed", LATER)
    again = await change(device, {"status": "completed"})
    assert again["session"]["ended_at"] == LATER


@pytest.mark.parametrize("status", ["completed", "aborted"])
async def test_completion_without_a_time_is_now(busbar: Running, device: httpx.AsyncClient, status: str) -> None:
    opened = await save(device)
    busbar.clock.forward(seconds=90)
    session = (await change(device, {"status": status}))["session"]
    assert session["status"] == status
    assert session["ended_at"] > opened["started_at"]
    assert session["duration"] >= 90


async def test_an_end_alone_completes(device: httpx.AsyncClient) -> None:
    await save(device, timestamp=EPOCH)
    assert (await change(device, {"ended_at": LATER}))["session"]["status"] == "completed"


async def test_a_session_is_renamed_and_opened_again(device: httpx.AsyncClient) -> None:
    await save(device, timestamp=EPOCH)
    await change(device, {"status": "completed"})
    session = (await change(device, {"status": "active", "name": "Again"}))["session"]
    assert (session["status"], session["name"]) == ("active", "Again")
    assert session["ended_at"] is None


async def test_an_unknown_session_is_404(device: httpx.AsyncClient) -> None:
    assert (await change(device, {"status": "completed"}, expected=404))["error"] == "NOT_FOUND"


@pytest.mark.parametrize(
    "body",
    [
        {"ended_at": "2023-11-14T22:13:19Z"},
        {"status": "completed", "ended_at": "2001-01-01T00:00:00Z"},
        {"ended_at": "yesterday"},
        {"ended_at": "0001-01-01T00:00:00+05:00"},
        {"status": "active", "ended_at": LATER},
        {"status": "paused"},
        {"status": 5},
    ],
)
async def test_a_bad_change_is_400_and_changes_nothing(device: httpx.AsyncClient, body: dict[str, Any]) -> None:
    await save(device, timestamp=EPOCH)
    assert (await change(device, body, expected=400))["error"] == "VALIDATION_ERROR"
    assert (await listed(device))[0]["status"] == "active"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"session_id": ""},
        {"session_id": "x" * 257},
        {"session_id": "s", "status": "paused"},
        {"session_id": "s", "source_id": "Rig 1"},
        {"session_id": "s", "timestamp": 1e300},
        {"session_id": "s", "timestamp": "now"},
        {"session_id": "s", "status": "ended", "duration": -1},
    ],
)
async def test_a_bad_session_is_400_and_not_opened(device: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await device.post("/api/sessions", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "VALIDATION_ERROR")
    assert await listed(device) == []


async def test_the_older_form_starts_and_ends(device: httpx.AsyncClient) -> None:
    started = await save(device, status="started", timestamp=EPOCH, device_id="rig-1", labels=["dyno"], tags={"who": "me"})
    assert (started["status"], started["source_id"], started["started_at"]) == ("active", "rig-1", START)
    ended = await save(device, expected=200, status="ended", timestamp=EPOCH + 60.0, notes="fine", duration=60)
    assert (ended["status"], ended["ended_at"], ended["duration"]) == ("completed", LATER, 60)
    assert (await save(device, expected=200, status="started", timestamp=EPOCH))["status"] == "completed"


async def test_an_end_without_a_start_is_a_session_too(device: httpx.AsyncClient) -> None:
    session = await save(device, status="ended", timestamp=EPOCH + 60, duration=60)
    assert (session["started_at"], session["ended_at"], session["duration"]) == (START, LATER, 60)


async def test_an_older_end_in_whole_seconds_is_never_before_the_start(device: httpx.AsyncClient) -> None:
    await save(device, status="started", timestamp=EPOCH + 0.7)
    assert (await save(device, expected=200, status="ended", timestamp=EPOCH))["duration"] == 0


async def test_sessions_are_listed_newest_first_and_filtered(device: httpx.AsyncClient) -> None:
    await save(device, "a", timestamp=EPOCH, source_id="rig-1", labels=["dyno", "cold"])
    await save(device, "b", timestamp=EPOCH + 1, source_id="rig-2", labels={"track": "north"}, status="ended")
    await save(device, "c", timestamp=EPOCH + 2, source_id="rig-1", tags=["dyno"])
    for query, expected in (
        ({}, "cba"), ({"limit": 2}, "cb"), ({"limit": 0}, "c"), ({"device_id": "rig-1"}, "ca"), ({"source_id": "rig-2"}, "b"),
        ({"label": "dyno"}, "ca"), ({"label": "north"}, "b"), ({"label": "track:north"}, "b"), ({"label": "dyn"}, ""),
        ({"status": "active"}, "ca"), ({"status": "completed"}, "b"), ({"source_id": "nobody"}, ""),
    ):  # fmt: skip
        assert "".join(session["session_id"] for session in await listed(device, **query)) == expected
    assert [session["labels"] for session in await listed(device)] == [["dyno"], {"track": "north"}, ["dyno", "cold"]]


async def test_sessions_of_others_do_not_exist(busbar: Running, eve: Person, device: httpx.AsyncClient) -> None:
    await save(device)
    stranger = busbar.http(**{"x-api-key": await busbar.key(eve, CredentialKind.TELEMETRY_KEY)})
    assert await listed(stranger) == []
    await change(stranger, {"status": "completed"}, expected=404)
    await save(stranger, status="ended")
    assert (await listed(device))[0]["status"] == "active"


async def test_a_credential_of_one_source_keeps_to_its_sessions(
    busbar: Running, alice: Person, device: httpx.AsyncClient
) -> None:
    await save(device, "theirs", source_id="rig-2")
    token = await device_token(busbar, alice, "rig-1", "write", "read")
    bound = busbar.client("rest", token)
    opened = await bound.call("SessionService.SaveSession", session_id="mine")
    assert opened.session.source_id == "rig-1"
    assert [session.session_id for session in (await bound.call("SessionService.ListSessions")).sessions] == ["mine"]
    for session_id, source, code in (("theirs", "", "CONFLICT"), ("new", "rig-2", "PERMISSION_DENIED")):
        with pytest.raises(Refused) as refused:
            await bound.call("SessionService.SaveSession", session_id=session_id, source_id=source)
        assert refused.value.code == code
    with pytest.raises(Refused) as refused:
        await bound.call("SessionService.UpdateSession", session_id="theirs", status="completed")
    assert refused.value.code == "NOT_FOUND"
