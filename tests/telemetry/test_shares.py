"""Shared views: anyone with a link may look on, and do nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import websockets

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.doors import Refused
from tests.telemetry.sockets import dashboard, device, end_of, greeting, hear, nothing_before_pong, say, sources


@pytest.fixture
async def key(busbar: Running, alice: Person) -> str:
    """A key that may do everything."""
    return await busbar.key(alice, CredentialKind.TELEMETRY_KEY)


async def make(busbar: Running, person: Person, **members: Any) -> dict[str, Any]:
    """Make a share over REST and return the answer."""
    answer = await busbar.http(person.session).post("/api/shares", json={"name": "wall", **members})
    assert answer.status_code == 201, answer.text
    return answer.json()


def view(busbar: Running, token: str, path: str = "/ws/browser") -> Any:
    """Open a shared view."""
    return dashboard(busbar, "", path, kind="share_auth", token=token)


async def refusal(busbar: Running, token: str) -> tuple[str, int | None]:
    """Return how a share token is turned away."""
    async with websockets.connect(f"{busbar.ws_url}/ws/browser") as socket:
        await say(socket, "share_auth", token=token)
        return (await hear(socket, "error"))["message"], await end_of(socket)


async def test_anyone_with_a_link_sees_live_telemetry(busbar: Running, alice: Person, key: str) -> None:
    share = await make(busbar, alice)
    assert share["token"].startswith("plxs_")
    for path in ("/ws/browser", "/party/default", f"/party/{alice.org_id}"):
        async with device(busbar, key, "rig") as rig, view(busbar, share["token"], path) as socket:
            assert sources(socket) == ["rig"]
            await say(rig, "telemetry", points=[{"metric": "t", "value": 1}])
            assert (await hear(socket, "telemetry"))["points"][0]["value"] == 1


async def test_a_shared_view_is_read_only(busbar: Running, alice: Person, key: str) -> None:
    share = await make(busbar, alice)
    async with device(busbar, key, "rig") as rig, view(busbar, share["token"]) as socket:
        for kind in ("start_stream", "execute", "typed_command", "command_run"):
            await say(socket, kind, source_id="rig", command="x")
            assert (await hear(socket, "error"))["message"] == "shared view is read-only"
        await say(socket, "ping", source_id="rig")
        assert (await hear(socket, "error"))["message"] == "shared view is read-only"
        await nothing_before_pong(socket, "error")
        async with dashboard(busbar, alice.session) as own:
            await say(own, "configure", source_id="rig", sensor="imu")
            assert (await hear(rig))["type"] == "configure"
        recorded = await busbar.http(alice.session).get("/api/commands")
        assert [command["command"] for command in recorded.json()["commands"]] == ["configure"]


async def test_a_share_of_some_sources_shows_those_and_no_trace_of_others(busbar: Running, alice: Person, key: str) -> None:
    for name in ("open", "secret"):
        body = {"source_id": name, "points": [{"metric": "t", "value": 0}]}
        await busbar.http(**{"x-api-key": key}).post("/ingest", json=body)
    share = await make(busbar, alice, sources=["open"])
    assert share["share"]["sources"] == ["open"]
    async with (
        device(busbar, key, "secret") as secret,
        view(busbar, share["token"]) as socket,
        dashboard(busbar, alice.session) as witness,
    ):
        assert greeting(socket)["online_sources"] == []
        await say(socket, "subscribe", stream="metrics", source_id="secret", metrics=[])
        await say(socket, "subscribe", stream="logs", source_id="secret")
        await say(socket, "subscribe", stream="metrics", source_id="open", metrics=[])
        await nothing_before_pong(socket, "error")
        await say(secret, "telemetry", points=[{"metric": "t", "value": 1}, {"metric": "e", "value": "x"}])
        await say(secret, "video_frame", camera_id="front", frame="aGk=")
        await say(secret, "heartbeat")
        seen = {(await hear(witness, "telemetry", "event", "video_frame", "heartbeat"))["type"] for _ in range(4)}
        assert seen == {"telemetry", "event", "video_frame", "heartbeat"}
        async with device(busbar, key, "open") as shown:
            await say(shown, "telemetry", points=[{"metric": "t", "value": 2}])
            frames = [await hear(socket), await hear(socket)]
    assert [frame["type"] for frame in frames] == ["source_status", "telemetry"]
    assert (frames[0]["source_id"], frames[1]["points"][0]["value"]) == ("open", 2)


async def test_revoking_a_share_closes_its_views_at_once(busbar: Running, alice: Person) -> None:
    share, other = await make(busbar, alice), await make(busbar, alice)
    async with view(busbar, share["token"]) as one, view(busbar, share["token"]) as two, view(busbar, other["token"]) as third:
        answer = await busbar.http(alice.session).delete(f"/api/shares/{share['share']['id']}")
        assert answer.status_code == 204
        assert (await end_of(one), await end_of(two)) == (1008, 1008)
        await nothing_before_pong(third, "error")
    assert await refusal(busbar, share["token"]) == ("Invalid share token", 1008)
    assert (await busbar.http(alice.session).delete(f"/api/shares/{share['share']['id']}")).status_code == 204


async def test_a_share_ends_when_it_expires(busbar: Running, alice: Person) -> None:
    share = await make(busbar, alice, expires_at="2100-01-01T00:00:00Z")
    async with view(busbar, share["token"]):
        pass
    busbar.clock.forward(seconds=100 * 366 * 86_400)
    assert await refusal(busbar, share["token"]) == ("Invalid share token", 1008)


async def test_a_share_must_be_right_to_be_made(busbar: Running, alice: Person, eve: Person, key: str) -> None:
    body = {"source_id": "rig", "points": [{"metric": "t", "value": 0}]}
    await busbar.http(**{"x-api-key": key}).post("/ingest", json=body)
    for person, members, status in (
        (alice, {"name": ""}, 400),
        (alice, {"expires_at": "2001-01-01T00:00:00Z"}, 400),
        (alice, {"sources": ["rig", "rig"]}, 400),
        (alice, {"sources": ["unknown"]}, 404),
        (eve, {"sources": ["rig"]}, 404),
    ):
        answer = await busbar.http(person.session).post("/api/shares", json={"name": "wall", **members})
        assert answer.status_code == status, answer.text
    assert (await busbar.http(alice.session).get("/api/shares")).json() == {"shares": []}


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_shares_are_listed_without_their_tokens_to_their_own_organisation(
    busbar: Running, alice: Person, eve: Person, door: str
) -> None:
    client, stranger = busbar.client(door, alice.session), busbar.client(door, eve.session)
    first = await client.call("ShareService.CreateShare", name="first")
    await client.call("ShareService.CreateShare", name="second", expires_at="2100-01-01T00:00:00Z")
    page = await client.call("ShareService.ListShares", limit=1)
    assert [share.name for share in page.shares] == ["second"]
    rest = await client.call("ShareService.ListShares", cursor=page.next_cursor)
    assert [(share.name, share.prefix) for share in rest.shares] == [("first", first.token[:8])]
    assert first.token not in str(rest)
    assert not (await stranger.call("ShareService.ListShares")).shares
    with pytest.raises(Refused) as refused:
        await stranger.call("ShareService.RevokeShare", share_id=first.share.id)
    assert refused.value.code == "NOT_FOUND"


async def test_a_share_token_is_no_credential_for_anything_else(busbar: Running, alice: Person, key: str) -> None:
    share = await make(busbar, alice)
    for headers in ({"x-api-key": share["token"]}, {"Authorization": f"Bearer {share['token']}"}):
        for path in ("/api/sources", "/api/v1/telemetry", "/api/boards", "/api/shares"):
            assert (await busbar.http(**headers).get(path)).status_code == 401
    client = busbar.client("grpc", share["token"])
    for rpc in (
        "SourceService.ListSources",
        "ShareService.ListShares",
        "BoardService.ListBoards",
        "QueryService.QueryTelemetry",
    ):
        with pytest.raises(Refused) as refused:
            await client.call(rpc)
        assert refused.value.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"), rpc
    assert key.startswith("plx_")
    for other in (key, alice.session):
        assert await refusal(busbar, other) == ("Invalid share token", 1008)
    for first in ({"kind": "browser_auth", "token": share["token"]}, {"kind": "data_api_auth", "api_key": share["token"]}):
        async with websockets.connect(f"{busbar.ws_url}/ws/browser") as socket:
            await say(socket, **first)
            assert await end_of(socket) == 1008
    async with websockets.connect(f"{busbar.ws_url}/ws/device") as socket:
        await say(socket, "device_auth", api_key=share["token"], source_id="rig")
        assert await end_of(socket) == 1008
