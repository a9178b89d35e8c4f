"""Latest values: numbered without a gap, newest first, and read from memory."""

from __future__ import annotations

import asyncio

import pytest

from core.kernel.errors import NotFound
from core.signals.model import Column, Latest
from core.storage.tx import Tx
from tests.signals.conftest import NOW_US, Bench


async def test_a_write_is_the_latest_value_and_a_point(bench: Bench) -> None:
    board = await bench.signals.ensure_device("org", "b1", kind="board")
    (latest,) = await bench.signals.write_latest(board, [("V1", 21.5)], by="user", label="Temperature")
    assert latest == Latest(NOW_US, 21.5, 1, "user", NOW_US)
    assert bench.signals.latest(board.id, "V1") == latest
    assert await bench.values("b1", "V1") == [21.5]
    assert (bench.channel("b1", "V1").kind, bench.channel("b1", "V1").label) == ("pin", "Temperature")
    assert board.seq == 1


async def test_writes_at_one_instant_are_ordered_by_time_too(bench: Bench) -> None:
    board = await bench.signals.ensure_device("org", "b1", kind="board")
    for value in (1, 1, 2):
        await bench.signals.write_latest(board, [("V1", value)], by="user")
    bench.clock.at_us -= 3600 * 1_000_000
    await bench.signals.write_latest(board, [("V1", 3)], by="user")
    latest = bench.signals.latest(board.id, "V1")
    assert latest is not None
    assert (latest.value, latest.seq, latest.at_us) == (3, 4, NOW_US + 3)
    assert await bench.values("b1", "V1") == [1, 1, 2, 3]


async def test_clearing_leaves_null_and_no_point(bench: Bench) -> None:
    board = await bench.signals.ensure_device("org", "b1", kind="board")
    await bench.signals.write_latest(board, [("V1", "on")], by="user")
    await bench.signals.write_latest(board, [("V1", None)], by="ha")
    assert bench.signals.latest_all(board.id)["V1"][1:4] == (None, 2, "ha")
    assert await bench.values("b1", "V1") == ["on"]
    assert bench.signals.latest(board.id, "V2") is None


async def test_sequence_numbers_have_no_gap_and_events_come_in_their_order(bench: Bench) -> None:
    board = await bench.signals.ensure_device("org", "b1", kind="board")

    async def writer(number: int) -> list[int]:
        seqs: list[int] = []
        for turn in range(5):
            writes = [(f"V{number}", turn), (f"V{(number + 1) % 8}", turn)]
            seqs += [latest.seq for latest in await bench.signals.write_latest(board, writes, by="user")]
        return seqs

    answers = await asyncio.gather(*map(writer, range(8)))
    assert sorted(seq for seqs in answers for seq in seqs) == list(range(1, 81))
    assert [change.seq for change in bench.changes] == list(range(1, 81))
    assert all(seqs[at + 1] == seqs[at] + 1 for seqs in answers for at in range(0, 10, 2))


async def test_events_say_what_wrote_and_which_connection(bench: Bench) -> None:
    board = await bench.signals.ensure_device("org", "b1", kind="board")
    await bench.signals.write_latest(board, [("V1", True)], by="device", client_id="socket-1")
    (change,) = bench.changes
    assert (change.org_id, change.device, change.channel.name, change.latest.value) == ("org", board, "V1", True)
    assert (change.by, change.client_id) == ("device", "socket-1")
    assert board.last_seen_us == NOW_US


async def test_a_refused_write_uses_no_number(bench: Bench) -> None:
    board = await bench.signals.ensure_device("org", "b1", kind="board")

    async def broken(_tx: Tx) -> None:
        raise NotFound("no")

    outcomes = await asyncio.gather(
        bench.signals.write_latest(board, [("V1", 1)], by="user"),
        bench.database.submit(broken),
        bench.signals.write_latest(board, [("V1", 2)], by="user"),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], NotFound)
    assert [change.seq for change in bench.changes] == [1, 2]
    assert await bench.values("b1", "V1") == [1, 2]


async def test_state_survives_a_restart(bench: Bench) -> None:
    board = await bench.signals.ensure_device("org", "b1", name="Bench", kind="board")
    await bench.signals.write_latest(board, [("V1", 21.5), ("V2", {"a": [1]}), ("V3", None)], by="mcp", label="Probe")
    signals = await bench.again()
    device = signals.find_device("org", "b1")
    assert device is not None
    assert (device.name, device.kind, device.seq) == ("Bench", "board", 3)
    assert signals.latest_all(device.id) == bench.signals.latest_all(board.id)
    await signals.write_latest(device, [("V1", 1)], by="user")
    assert device.seq == 4


async def test_the_newest_point_of_a_batch_is_the_latest_and_late_ones_are_not(bench: Bench) -> None:
    await bench.signals.write("org", [Column("rig", "temp", [NOW_US + 5, NOW_US + 9, NOW_US + 7], [5.0, 9.0, 7.0])])
    await bench.signals.write("org", [Column("rig", "temp", [NOW_US + 8], [8.0])])
    channel = bench.channel("rig", "temp")
    latest = bench.signals.latest(channel.device_id, "temp")
    assert latest is not None
    assert (latest.at_us, latest.value, latest.seq) == (NOW_US + 9, 9.0, 0)
    assert (await bench.again()).latest(channel.device_id, "temp") == latest


async def test_of_equally_new_points_the_last_written_is_the_latest(bench: Bench) -> None:
    await bench.signals.write("org", [Column("rig", "temp", [NOW_US, NOW_US], [1.0, 2.0])])
    channel = bench.channel("rig", "temp")
    assert bench.signals.latest(channel.device_id, "temp")[1] == 2.0  # pyright: ignore[reportOptionalSubscript]
    await bench.signals.write("org", [Column("rig", "temp", [NOW_US], [3.0])])
    assert bench.signals.latest(channel.device_id, "temp")[1] == 3.0  # pyright: ignore[reportOptionalSubscript]


async def test_a_batch_to_a_board_gives_one_number_for_each_channel_it_changes(bench: Bench) -> None:
    board = await bench.signals.ensure_device("org", "b1", kind="board")
    await bench.signals.write_latest(board, [("V1", 1), ("V2", 2)], by="user")
    times = [NOW_US + 10, NOW_US + 20]
    batch = [
        Column("b1", "V1", times, [3.0, 4.0]),
        Column("b1", "V2", [NOW_US - 50], [0.0]),
        Column("b1", "V3", times, ["a", "b"]),
    ]
    await bench.signals.write("org", batch)
    changes = [(change.channel.name, change.latest.value, change.seq) for change in bench.changes[2:]]
    assert changes == [("V1", 4.0, 3), ("V3", "b", 4)]
    assert board.seq == 4
    assert bench.signals.latest_all(board.id) == (await bench.again()).latest_all(board.id)


async def test_a_pin_write_after_a_point_from_the_future_still_counts(bench: Bench) -> None:
    board = await bench.signals.ensure_device("org", "b1", kind="board")
    await bench.signals.write("org", [Column("b1", "V1", [NOW_US + 10**15], [1.0])])
    (latest,) = await bench.signals.write_latest(board, [("V1", 2.0)], by="user")
    assert latest.at_us == NOW_US + 10**15 + 1
    assert bench.signals.latest(board.id, "V1") == latest


async def test_a_write_to_a_deleted_device_is_refused(bench: Bench) -> None:
    board = await bench.signals.ensure_device("org", "b1", kind="board")
    await bench.signals.delete_device(board.id)
    with pytest.raises(NotFound):
        await bench.signals.write_latest(board, [("V1", 1)], by="user")
