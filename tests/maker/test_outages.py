"""Owners are told of boards that go away and stay away, once for each outage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import col, select

from core.maker.outages import KIND, Outages
from core.outbox.tables import OutboxRow
from tests.conftest import Person, Running, Start
from tests.maker import making
from tests.maker.classes import notices, school_class
from tests.maker.workshop import carried_out, socket_of

AFTER = 60.0


async def outages(busbar: Running) -> list[str]:
    """Return the states of the looks at boards that went away, oldest first."""
    async with busbar.app.database.read() as session:
        query = (
            select(OutboxRow.state).where(col(OutboxRow.kind) == KIND).order_by(col(OutboxRow.created_us), col(OutboxRow.id))
        )
        return list((await session.exec(query)).all())


async def until(busbar: Running, wanted: Callable[[list[str]], bool]) -> None:
    """Wait until the looks at boards are as wanted; the outbox tells nobody when it has carried something out."""
    async with asyncio.timeout(20):
        while not wanted(await outages(busbar)):
            busbar.app.outbox.notify()
            await asyncio.sleep(0.01)


async def come_and_go(busbar: Running, board: Any, times: int) -> None:
    """Let a board connect and leave; returns when every outage is noted."""
    before = len(await outages(busbar))
    for number in range(1, times + 1):
        async with socket_of(busbar, board.id, board.device_token):
            pass
        await until(busbar, lambda rows, wanted=before + number: len(rows) == wanted)


async def say_something(busbar: Running, board: Any) -> None:
    """Let a board post a pin over HTTP, as one does that has no connection."""
    body = {"source_id": board.id, "points": [{"metric": "V1", "value": 1}]}
    answer = await busbar.http(**{"x-api-key": board.device_token}).post("/ingest", json=body)
    assert answer.status_code == 200, answer.text


async def told(busbar: Running, person: Person) -> list[dict[str, Any]]:
    """Return what somebody is told of, newest first, once every look and every notification was carried out."""
    await carried_out(busbar)
    found = (await busbar.http(person.session).get("/api/me/notifications")).json()["notifications"]
    return [one for one in found if one["kind"] == "board.offline"]


async def test_a_board_that_stays_away_is_told_once(busbar: Running, alice: Person, eve: Person, bench: Any) -> None:
    await come_and_go(busbar, bench, 1)
    assert await told(busbar, alice) == []
    busbar.clock.forward(seconds=AFTER + 1)
    (notice,) = await told(busbar, alice)
    busbar.clock.forward(seconds=AFTER + 1)
    assert await told(busbar, alice) == [notice]
    assert (notice["title"], notice["link"]) == ("Bench is offline", f"/boards/{bench.id}")
    assert notice["data"]["boardId"] == bench.id
    assert notice["data"]["since"].endswith("Z")
    assert await told(busbar, eve) == []


async def test_a_board_that_comes_back_in_time_had_no_outage(busbar: Running, alice: Person, bench: Any) -> None:
    await come_and_go(busbar, bench, 3)
    async with socket_of(busbar, bench.id, bench.device_token):
        busbar.clock.forward(seconds=AFTER + 1)
        assert await told(busbar, alice) == []
    await until(busbar, lambda rows: rows == ["delivered"] * 3 + ["pending"])


async def test_a_board_that_is_heard_from_over_another_door_is_there(busbar: Running, alice: Person, bench: Any) -> None:
    await come_and_go(busbar, bench, 1)
    await say_something(busbar, bench)
    busbar.clock.forward(seconds=AFTER + 1)
    assert await told(busbar, alice) == []


async def test_a_board_that_left_a_moment_ago_holds_up_no_other_notice(busbar: Running, bench: Any) -> None:
    room = await school_class(busbar, "bea")
    await come_and_go(busbar, bench, 1)
    await room.hand_in(await room.assign())
    assert [notice.kind for notice in await notices(busbar, room.teacher)] == ["submission.received"]


async def looked_around(busbar: Running, person: Person) -> list[dict[str, Any]]:
    """Return what somebody is told of, once the boards were gone over."""
    await busbar.app.found.part(Outages).look_around()
    return await told(busbar, person)


async def test_of_a_board_that_only_posts_each_silence_is_told_once(busbar: Running, alice: Person, bench: Any) -> None:
    never = await busbar.board(alice, "Never heard from")
    busbar.clock.forward(seconds=AFTER + 1)
    for number in (1, 2):
        await say_something(busbar, bench)
        busbar.clock.forward(seconds=AFTER - 5)
        assert len(await looked_around(busbar, alice)) == number - 1
        busbar.clock.forward(seconds=6)
        found = await looked_around(busbar, alice)
        assert (len(found), found[0]["title"], found[0]["data"]["boardId"]) == (number, "Bench is offline", bench.id)
        busbar.clock.forward(seconds=AFTER + 1)
        assert await looked_around(busbar, alice) == found
    assert (await busbar.http(alice.session).get(f"/api/boards/{never.id}")).json()["status"] == "never"


async def test_what_people_write_is_no_sign_of_a_board(busbar: Running, alice: Person, bench: Any) -> None:
    answer = await busbar.http(alice.session).put(f"/api/boards/{bench.id}/pins/1", json={"value": 1})
    assert answer.status_code == 200
    busbar.clock.forward(seconds=2 * AFTER)
    assert await looked_around(busbar, alice) == []


async def test_a_board_that_left_with_its_connection_is_told_once(busbar: Running, alice: Person, bench: Any) -> None:
    await say_something(busbar, bench)
    await come_and_go(busbar, bench, 1)
    busbar.clock.forward(seconds=AFTER + 1)
    (notice,) = await looked_around(busbar, alice)
    await say_something(busbar, bench)
    busbar.clock.forward(seconds=AFTER + 1)
    assert len(await looked_around(busbar, alice)) == 2
    assert (await looked_around(busbar, alice))[1] == notice


async def test_a_connected_board_may_be_silent(busbar: Running, alice: Person, bench: Any) -> None:
    async with socket_of(busbar, bench.id, bench.device_token):
        busbar.clock.forward(seconds=2 * AFTER)
        assert await looked_around(busbar, alice) == []


async def test_a_silence_is_told_though_the_server_was_away_and_not_again_by_the_next_one(start: Start) -> None:
    busbar = await start()
    alice = await busbar.person("alice")
    board = await busbar.board(alice)
    await say_something(busbar, board)
    ahead = 0.0
    for _ in range(2):
        await busbar.server.stop(1)
        await busbar.app.close()
        busbar = await start()
        busbar.clock.forward(seconds=ahead + AFTER + 1)
        await busbar.app.found.start_parts()
        found = await looked_around(busbar, alice)
        assert len(found) == (1 if ahead else 0)
        ahead += AFTER + 1
        busbar.clock.forward(seconds=AFTER + 1)
        assert len(await looked_around(busbar, alice)) == 1


async def test_boards_are_gone_over_without_being_asked(start: Start) -> None:
    busbar = await start(live={"offline_after_seconds": 0.1})
    alice = await busbar.person("alice")
    await say_something(busbar, await busbar.board(alice))
    assert await making.until(lambda: told(busbar, alice), bool)


async def test_each_outage_is_told_by_itself(busbar: Running, alice: Person, bench: Any) -> None:
    for number in (1, 2):
        await come_and_go(busbar, bench, 2)
        busbar.clock.forward(seconds=AFTER + 1)
        assert len(await told(busbar, alice)) == number


async def test_of_a_deleted_board_nothing_is_told(busbar: Running, alice: Person, bench: Any) -> None:
    await come_and_go(busbar, bench, 1)
    assert (await busbar.http(alice.session).delete(f"/api/boards/{bench.id}")).status_code == 200
    busbar.clock.forward(seconds=AFTER + 1)
    assert await told(busbar, alice) == []


@pytest.mark.parametrize("returns", [True, False])
async def test_boards_have_time_to_come_back_after_the_server_was_away(start: Start, *, returns: bool) -> None:
    busbar = await start()
    alice = await busbar.person("alice")
    board = await busbar.board(alice)
    async with socket_of(busbar, board.id, board.device_token):
        await busbar.server.stop(1)
    await busbar.app.close()
    again = await start()
    again.clock.forward(seconds=AFTER + 1)
    await again.app.found.start_parts()
    assert await told(again, alice) == []
    assert await outages(again) == ["delivered", "pending"]
    if returns:
        async with socket_of(again, board.id, board.device_token):
            again.clock.forward(seconds=AFTER + 1)
            assert await told(again, alice) == []
    else:
        again.clock.forward(seconds=AFTER + 1)
        assert len(await told(again, alice)) == 1
