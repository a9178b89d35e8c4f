"""Recordings: sessions, runs and experiments."""

from __future__ import annotations

import json

import pytest

from core.kernel.errors import AlreadyExists, NotFound
from core.signals.model import Column
from tests.signals.conftest import NOW_US, Bench


async def test_a_recording_is_found_by_either_id(bench: Bench) -> None:
    made = await bench.signals.recordings.create("org", "run-1", name="First", kind="run", attributes={"a": 1})
    for identity in ("run-1", made.public_id):
        found = await bench.signals.recordings.find("org", identity)
        assert found is not None
        assert (found.name, found.status, found.started_us) == ("First", "running", NOW_US)
    assert await bench.signals.recordings.find("other", "run-1") is None


async def test_an_external_id_is_taken_once_in_an_organisation(bench: Bench) -> None:
    await bench.signals.recordings.create("org", "run-1")
    await bench.signals.recordings.create("other", "run-1")
    with pytest.raises(AlreadyExists):
        await bench.signals.recordings.create("org", "run-1")


async def test_a_recording_is_completed_and_its_attributes_are_merged(bench: Bench) -> None:
    await bench.signals.recordings.create("org", "run-1", attributes={"a": 1, "b": 2})
    row = await bench.signals.recordings.update("org", "run-1", status="completed", ended_us=NOW_US + 9, attributes={"b": 3})
    assert (row.status, row.ended_us, json.loads(row.attributes)) == ("completed", NOW_US + 9, {"a": 1, "b": 3})
    with pytest.raises(NotFound):
        await bench.signals.recordings.update("org", "none", status="completed")


async def test_points_open_a_session_that_began_with_the_first_of_them(bench: Bench) -> None:
    await bench.signals.write("org", [Column("rig", "temp", [NOW_US, NOW_US - 5], [1.0, 2.0], recording="s-1")])
    row = await bench.signals.recordings.find("org", "s-1")
    assert row is not None
    assert (row.kind, row.status, row.started_us) == ("session", "running", NOW_US - 5)
    assert row.device_id == bench.channel("rig", "temp").device_id


async def test_recordings_are_listed_the_last_started_first(bench: Bench) -> None:
    for number in range(5):
        await bench.signals.recordings.create("org", f"r{number}", kind="run" if number % 2 else "session", started_us=number)
    rows, total = await bench.signals.recordings.list("org", offset=1, limit=2)
    assert ([row.external_id for row in rows], total) == (["r3", "r2"], 5)
    runs, total = await bench.signals.recordings.list("org", kind="run")
    assert ([row.external_id for row in runs], total) == (["r3", "r1"], 2)


async def test_a_change_made_meanwhile_is_not_overwritten(bench: Bench) -> None:
    read = await bench.signals.recordings.create("org", "run-1", name="First")
    assert await bench.signals.recordings.replace(read, name="Second") is not None
    assert await bench.signals.recordings.replace(read, name="Third") is None
    found = await bench.signals.recordings.find("org", "run-1")
    assert found is not None
    assert found.name == "Second"


async def test_points_open_a_deleted_recording_anew(bench: Bench) -> None:
    column = Column("rig", "temp", [NOW_US], [1.0], recording="s-1")
    await bench.signals.write("org", [column])
    row = await bench.signals.recordings.find("org", "s-1")
    assert row is not None
    await bench.signals.recordings.delete(row)
    assert await bench.signals.recordings.find("org", "s-1") is None
    await bench.signals.write("org", [column._replace(times_us=[NOW_US + 1])])
    assert await bench.signals.recordings.find("org", "s-1") is not None
