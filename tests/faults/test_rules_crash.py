"""After `kill -9` every value that was acknowledged has fired its rules, once."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx

from core.app import App
from core.kernel.settings import Settings
from core.storage.tx import Tx
from tests.faults.process import Account, prepare, serving
from tests.faults.test_crash import Round

AIMS = (3, 14, 40)
"""Acknowledgements after which a round is killed."""
SENDERS = 4
WAIT_SECONDS = 20.0
SOURCE = {"source_id": "rig-1", "metric": "n"}


async def make_rule(http: httpx.AsyncClient, account: Account) -> None:
    """Make a rule that fires at every value of a metric."""
    await send(http, account, 0)
    event = (await http.post("/api/v1/events/link", json={**SOURCE, "name": "N"})).json()["public_id"]
    body = {"name": "each", "event_public_id": event, "operator": "gt", "threshold": 0.5, "action_type": "log"}
    answer = await http.post("/api/v1/rules", json={**body, "cooldown_seconds": 0})
    assert answer.status_code == 201, answer.text


async def send(http: httpx.AsyncClient, account: Account, value: int) -> None:
    """Send one value of the metric, stamped with itself."""
    point = {"metric": "n", "value": value, "timestamp": 1_700_000_000_000 + value}
    headers = {"x-api-key": account.telemetry_key}
    answer = await http.post("/ingest", json={"source_id": "rig-1", "points": [point]}, headers=headers)
    assert answer.status_code == 200, answer.text


async def send_often(http: httpx.AsyncClient, life: Round, values: Iterator[int], acknowledged: set[int]) -> None:
    """Send values, each once, until the server is gone."""
    while True:
        value = next(values)
        try:
            await send(http, life.account, value)
        except httpx.TransportError as error:
            life.must_be_over(error)
            return
        acknowledged.add(value)
        life.acknowledged()


async def fired(tx: Tx) -> tuple[Counter[int], set[int], int]:
    """Return how often each value fired, which values are stored, and how much is still to be done."""
    entries = await tx.fetch("SELECT content FROM lab_log WHERE logging_type = 'warning'")
    values = Counter(int(match[1]) for (content,) in entries if (match := re.search(r"value (\d+)\.0 ", content)))
    stored = {int(number) for (number,) in await tx.fetch("SELECT num FROM point WHERE num > 0.5")}
    return values, stored, (await tx.fetch("SELECT count(*) FROM lab_effect"))[0][0]


async def test_a_kill_between_a_value_and_its_rule_neither_loses_nor_repeats_a_firing(tmp_path: Path) -> None:
    data, acknowledged, values = tmp_path / "data", set[int](), itertools.count(1)
    account = await prepare(data)
    for number, aim in enumerate(AIMS):
        async with (
            serving(data) as server,
            httpx.AsyncClient(base_url=server.http, headers={"authorization": f"Bearer {account.session}"}, timeout=20) as http,
        ):
            if not number:
                await make_rule(http, account)
            life = Round(server, account, aim)
            await life.run(*(send_often(http, life, values, acknowledged) for _ in range(SENDERS)))
    app = await App.create(Settings(data=data))
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while (found := await app.database.query(fired))[2]:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.02)
    finally:
        await app.close()
    times, stored, _ = found
    assert acknowledged <= stored
    assert times == Counter(stored)
