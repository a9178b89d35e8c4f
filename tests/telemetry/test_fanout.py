"""What many dashboards are shown is made once for all of them, and a slow one costs nobody anything."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from weakref import ref

import pytest
import websockets

from adapters.live.frames import Frames
from adapters.rest.dialects import DIALECTS
from core.kernel.call import Principal
from core.live.bus import Bus
from core.live.shared import forms_of, share
from core.signals.model import Column, PointsWritten
from core.signals.topics import points_topic
from core.telemetry.stream import batches, fanout
from core.telemetry.stream.fanout import Fanouts, View
from core.telemetry.stream.interests import Interests
from gen.busbar.api.v1.options_pb import CredentialKind, Surface
from gen.busbar.telemetry.v1.stream_pb import ConnectDashboardResponse, LivePoint, Subscribe, TelemetryBatch
from tests.conftest import Person, Running
from tests.telemetry.sockets import SECONDS, dashboard, device, hear, say

ORG = "org"


class Desk:
    """Dashboards of one organisation."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.fanouts = Fanouts(self.bus)
        self.views: dict[View, Interests] = {}

    def open(self, *wishes: Subscribe, only: frozenset[str] | None = None, everything: bool = True) -> View:
        """Open a dashboard with wishes."""
        interests = Interests(Principal("cred", CredentialKind.SESSION, ORG, board_ids=only), everything=everything)
        for wish in wishes:
            interests.choose(wish)
        view = self.fanouts.open(ORG, interests)
        self.views[view] = interests
        return view

    def choose(self, view: View, wish: Subscribe) -> None:
        """Let a dashboard change its mind."""
        self.views[view].choose(wish)
        view.chosen()

    def tell(self, *columns: Column) -> None:
        """Let points arrive."""
        self.bus.publish(points_topic(ORG), PointsWritten(ORG, columns, "device", None), remember=False)

    async def moment(self, view: View) -> None:
        """Wait until a dashboard has something to take."""
        await asyncio.wait_for(view.some.wait(), SECONDS)

    async def close(self) -> None:
        """Close all."""
        for view in self.views:
            await self.fanouts.close(ORG, view)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """Dashboards on a bus of their own."""
    opened = Desk()
    yield opened
    await opened.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == fanout.TASK]
    assert opened.bus.readers == 0


def column(value: float, source: str = "rig", metric: str = "t", at: int = 0, session: str | None = None) -> Column:
    """Return a column of one point."""
    return Column(source, metric, [at or int(value)], [value], session, None, "metric")


def values(frames: list[Any]) -> list[Any]:
    """Return the values in frames of telemetry."""
    return [point.value.to_python() for frame in frames if frame.field == "telemetry" for point in frame.value.points]


def wish(source: str = "", *metrics: str) -> Subscribe:
    """Return a wish for metrics."""
    return Subscribe(stream="metrics", source_id=source, metrics=list(metrics))


async def test_dashboards_of_one_choice_share_what_is_made_for_them(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Counter[str]()
    build = batches.live_points

    def counting(org_id: str, found: Column, **more: Any) -> list[LivePoint]:
        made[found.channel] += 1
        return build(org_id, found, **more)

    monkeypatch.setattr(batches, "live_points", counting)
    everything = [desk.open() for _ in range(50)]
    some = [desk.open(wish("rig", "t", "u")) for _ in range(50)]
    desk.tell(column(1), column(2, metric="other"))
    desk.tell(column(3))
    await desk.moment(everything[0])
    shown, chosen = [view.take() for view in everything], [view.take() for view in some]
    assert values(shown[0]) == [1, 2, 3]
    assert values(chosen[0]) == [1, 3]
    assert {id(frame) for frames in shown for frame in frames} == {id(shown[0][0])}
    assert {id(frame) for frames in chosen for frame in frames} == {id(chosen[0][0])}
    assert made == {"t": 4, "other": 1}
    assert not any(view.take() for view in (*everything, *some))


async def test_the_json_of_a_shared_message_is_made_once_and_goes_with_it(busbar: Running) -> None:
    rpc = next(rpc for rpc in busbar.rpcs if rpc.name.endswith("StreamService/ConnectDashboard"))
    frames = Frames(rpc, DIALECTS[Surface.TELEMETRY])
    batch = share(TelemetryBatch(points=[LivePoint(v=1, metric="t")]))
    first, second = (frames.write(ConnectDashboardResponse(frame=batches.Oneof(field="telemetry", value=batch))) for _ in "ab")
    assert first is second
    assert json.loads(str(first))["points"][0]["metric"] == "t"
    forms = forms_of(batch)
    assert forms is not None
    assert list(forms.values()) == [first]
    gone = ref(batch)
    del batch, first, second
    assert gone() is None
    # Whatever takes its place in memory is another message.
    assert not any(forms_of(TelemetryBatch()) for _ in range(100))


async def test_one_that_comes_later_sees_only_what_comes_after(desk: Desk) -> None:
    early = desk.open()
    desk.tell(column(1))
    late = desk.open()
    desk.tell(column(2))
    await desk.moment(late)
    assert (values(early.take()), values(late.take())) == ([1, 2], [2])


async def test_a_slow_dashboard_is_a_place_and_shrinks_to_the_newest_values(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MOST_POINTS", 10)
    fast, slow, slower = desk.open(), desk.open(), desk.open()
    seen: list[Any] = []
    for number in range(1, 101):
        desk.tell(column(number, metric=f"m{number % 3}"))
        await desk.moment(fast)
        seen += values(fast.take())
        if number == 95:
            slow.take()
    assert seen == list(range(1, 101))
    assert values(slow.take()) == [96, 97, 98, 99, 100]
    assert sorted(values(slower.take())) == [98, 99, 100]
    desk.tell(column(101))
    await desk.moment(slower)
    assert [values(view.take()) for view in (fast, slow, slower)] == [[101]] * 3


async def test_the_newest_is_by_its_own_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MOST_POINTS", 2)
    view = desk.open()
    for value, at in ((1, 30), (2, 20), (3, 10)):
        desk.tell(column(value, at=at))
        desk.open()
    assert values(view.take()) == [1]


async def test_more_metrics_than_are_kept_are_dropped_and_that_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MOST_POINTS", 10)
    view = desk.open()
    desk.tell(*(column(number, metric=f"m{number}") for number in range(1, 26)))
    await desk.moment(view)
    frames = view.take()
    assert values(frames) == list(range(16, 26))
    assert frames[-1].value.message == "the dashboard is too slow: values of 15 metrics were dropped"
    desk.tell(column(26))
    await desk.moment(view)
    assert [frame.field for frame in view.take()] == ["telemetry"]


async def test_what_waits_is_still_shown_when_the_choice_changes(desk: Desk) -> None:
    view = desk.open(everything=False)
    desk.choose(view, wish("a"))
    desk.tell(column(1, "a"), column(2, "b"))
    desk.choose(view, wish("b", "t"))
    desk.tell(column(3, "a"), column(4, "b"), column(5, "b", "other"), column(6, "c"))
    desk.choose(view, wish("", "x"))
    desk.tell(column(7, "c", "x"), column(8, "c"))
    await desk.moment(view)
    desk.open()
    assert sorted(values(view.take())) == [1, 3, 4, 7]


async def test_changing_the_choice_for_ever_keeps_no_more_than_a_few_frames(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "MOST_KEPT", 4)
    view = desk.open()
    for number in range(1, 11):
        desk.tell(column(number))
        desk.choose(view, wish("", "t", f"m{number}"))
    assert values(view.take()) == [7, 8, 9, 10]
    assert view.dropped == 6


async def test_who_may_see_some_sources_sees_those_however_they_choose(desk: Desk) -> None:
    views = [desk.open(*chosen, only=frozenset({"a"})) for chosen in ((), (wish(),), (wish("a"), wish("b")), (wish("", "t"),))]
    desk.tell(column(1, "a"), column(2, "b"))
    await desk.moment(views[0])
    assert [values(view.take()) for view in views] == [[1]] * 4


async def test_each_session_has_batches_of_its_own(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "POINTS_PER_FRAME", 2)
    view = desk.open()
    desk.tell(*(column(number, session="s") for number in (1, 2, 3)), column(4))
    await desk.moment(view)
    assert [(frame.value.session_id, values([frame])) for frame in view.take()] == [("s", [1, 2]), ("s", [3]), ("", [4])]


def test_a_busy_server_shows_fewer_and_larger_batches_and_then_as_many_as_before() -> None:
    moment = fanout.MOMENT_SECONDS
    assert fanout.next_moment(moment, 0.0001) == moment
    moments = [moment := fanout.next_moment(moment, 0.05) for _ in range(20)]
    assert moments == sorted(moments)
    assert moments[-1] == pytest.approx(0.2, abs=0.001)
    assert fanout.next_moment(moment, 60) == fanout.LONGEST_MOMENT_SECONDS
    for _ in range(20):
        moment = fanout.next_moment(moment, 0)
    assert moment == fanout.MOMENT_SECONDS


async def test_a_dashboard_that_never_reads_holds_no_device_up(busbar: Running, alice: Person) -> None:
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY)
    async with (
        websockets.connect(f"{busbar.ws_url}/ws/browser", max_queue=1) as stuck,
        dashboard(busbar, alice.session) as screen,
        device(busbar, key, acks=True) as rig,
    ):
        await say(stuck, "browser_auth", token=alice.session)
        await hear(stuck, "init")
        stuck.transport.pause_reading()
        tags = {"note": "x" * 1000}
        for seq in range(1, 101):
            points = [{"metric": f"m{n}", "value": seq, "timestamp": seq, "tags": tags} for n in range(100)]
            await say(rig, "telemetry", seq=seq, points=points)
            await hear(rig, "telemetry_ack", where=lambda frame, seq=seq: frame["seq"] >= seq)
        await hear(screen, "telemetry", where=lambda frame: any(point["value"] == 100 for point in frame["points"]))
        stuck.transport.abort()
