"""Requests that may be sent again run once."""

from __future__ import annotations

import asyncio

import pytest

from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import Aborted
from core.storage.database import Database
from core.storage.idempotency import IdempotencyKeys
from gen.busbar.api.v1.error_reason_pb import ErrorReason

REQUEST = "user1", "busbar.maker.v1.BoardService/CreateBoard", "key-1"


class SetClock(Clock):
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.at_us = 1_700_000_000 * MICROSECONDS

    def now_us(self) -> int:
        return self.at_us


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def keys(database: Database, clock: SetClock) -> IdempotencyKeys:
    return IdempotencyKeys(database, clock)


async def test_the_first_request_runs_and_its_answer_is_kept(keys: IdempotencyKeys) -> None:
    assert await keys.begin(*REQUEST, b"same") is None
    await keys.finish(*REQUEST, b"answer", 201)
    assert await keys.begin(*REQUEST, b"same") == (b"answer", 201)


async def test_an_empty_answer_is_an_answer(keys: IdempotencyKeys) -> None:
    await keys.begin(*REQUEST, b"same")
    await keys.finish(*REQUEST, b"", None)
    assert await keys.begin(*REQUEST, b"same") == (b"", None)


async def test_a_key_used_with_another_request_is_refused(keys: IdempotencyKeys) -> None:
    await keys.begin(*REQUEST, b"same")
    await keys.finish(*REQUEST, b"answer", None)
    with pytest.raises(Aborted) as refused:
        await keys.begin(*REQUEST, b"other")
    assert refused.value.reason == ErrorReason.IDEMPOTENCY_CONFLICT


async def test_a_request_that_has_not_ended_is_not_run_twice(keys: IdempotencyKeys) -> None:
    answers = await asyncio.gather(*[keys.begin(*REQUEST, b"same") for _ in range(5)], return_exceptions=True)
    assert answers.count(None) == 1
    assert sum(isinstance(answer, Aborted) for answer in answers) == 4


async def test_a_request_that_a_crash_cut_short_stays_refused(
    keys: IdempotencyKeys, database: Database, clock: SetClock
) -> None:
    await keys.begin(*REQUEST, b"same")
    with pytest.raises(Aborted):
        await IdempotencyKeys(database, clock).begin(*REQUEST, b"same")


async def test_a_refused_request_frees_its_key(keys: IdempotencyKeys) -> None:
    await keys.begin(*REQUEST, b"same")
    await keys.abandon(*REQUEST)
    assert await keys.begin(*REQUEST, b"corrected") is None


async def test_owners_and_rpcs_do_not_share_keys(keys: IdempotencyKeys) -> None:
    await keys.begin("user1", "A", "key", b"1")
    assert await keys.begin("user2", "A", "key", b"2") is None
    assert await keys.begin("user1", "B", "key", b"3") is None


async def test_a_key_is_forgotten_after_a_day(keys: IdempotencyKeys, clock: SetClock) -> None:
    await keys.begin(*REQUEST, b"same")
    await keys.finish(*REQUEST, b"answer", None)
    clock.at_us += 24 * 3600 * MICROSECONDS + 1
    assert await keys.begin(*REQUEST, b"other") is None


async def test_sweeping_drops_old_keys_only(keys: IdempotencyKeys, clock: SetClock) -> None:
    await keys.begin("user1", "A", "old", b"1")
    clock.at_us += 20 * 3600 * MICROSECONDS
    await keys.begin("user1", "A", "young", b"1")
    clock.at_us += 5 * 3600 * MICROSECONDS
    assert await keys.sweep() == 1
    with pytest.raises(Aborted):
        await keys.begin("user1", "A", "young", b"1")
