"""Rules on PostgreSQL, where several workers write at once."""

from __future__ import annotations

import asyncio

from tests.conftest import Start
from tests.databases import Postgres, postgres
from tests.lab.conftest import linked, sign_in
from tests.lab.things import Worker, another_worker, log_of, make, measure, rule

__all__ = ["postgres"]


async def test_workers_that_meet_fire_each_rule_once(start: Start, postgres: Postgres) -> None:
    busbar = await start(database=await postgres.migrated())
    alice = await busbar.person("alice")
    admin = await sign_in(busbar, alice.email)
    await measure(busbar, alice, 0.0)
    event = await linked(busbar, alice, "rig-1", "temp")
    for number in range(4):
        await make(admin, "rules", rule(event, name=f"rule {number}", action_type="log"))
    async with another_worker(busbar) as one, another_worker(busbar) as two:
        workers = [Worker.of(busbar), one, two]
        await asyncio.gather(*(worker.see(alice, 31.0) for worker in workers for _ in range(3)))
    assert len(await log_of(admin)) == 4


async def test_everything_is_kept_on_postgres_too(start: Start, postgres: Postgres) -> None:
    busbar = await start(database=await postgres.migrated())
    alice = await busbar.person("alice")
    admin = await sign_in(busbar, alice.email)
    await measure(busbar, alice, 40.0)
    event = await linked(busbar, alice, "rig-1", "temp")
    hook = await make(admin, "webhooks", {"url": "http://127.0.0.1:9/", "events": ["sensor.threshold_exceeded"]})
    made = await make(admin, "rules", rule(event, cooldown_seconds=2_147_483_647))
    board = (await admin.post("/api/v1/dashboards", json={"name": "Bench"})).json()["public_id"]
    widget = {"widget_type": "gauge", "title": "t", "event_public_id": event}
    assert (await admin.post(f"/api/v1/dashboards/{board}/widgets", json=widget)).status_code == 201
    tried = await admin.post("/api/v1/rules/try", json={"rule_public_id": made["public_id"], "since": "2020-01-01T00:00:00Z"})
    assert tried.json()["total"] == 1
    for path in (f"rules/{made['public_id']}", f"webhooks/{hook['public_id']}", f"dashboards/{board}"):
        assert (await admin.put(f"/api/v1/{path}", json={})).status_code == 200
    assert (await admin.delete(f"/api/v1/events/{event}")).status_code == 200
    assert (await admin.get("/api/v1/rules")).json()["total"] == 0
    assert [one["event_public_id"] for one in (await admin.get(f"/api/v1/dashboards/{board}")).json()["widgets"]] == [None]
    for path in (f"webhooks/{hook['public_id']}", f"dashboards/{board}"):
        assert (await admin.delete(f"/api/v1/{path}")).status_code == 200
