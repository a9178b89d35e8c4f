"""Plugins, packages and updates on PostgreSQL."""

from __future__ import annotations

import asyncio

from tests.conftest import Start
from tests.databases import Postgres, postgres
from tests.lab.conftest import person, sign_in
from tests.lab.test_ota import update
from tests.lab.test_packages import upload, uploaded
from tests.lab.test_plugins import instance

__all__ = ["postgres"]


async def test_plugins_live_and_go_on_postgres_too(start: Start, postgres: Postgres) -> None:
    busbar = await start(database=await postgres.migrated(), lab={"plugin_poll_seconds": 0})
    admin = await sign_in(busbar, (await busbar.person("alice")).email)
    assert (await upload(admin)).status_code == 201
    made = await instance(admin, plugin_id="oven")
    assert len(made["channel_mappings"]) == 3
    channel = made["channel_mappings"][0]
    path = f"/api/v1/plugins/{made['public_id']}"
    assert (await admin.put(path, json={"demo_mode": True})).status_code == 200
    assert (await admin.put(f"{path}/channels/{channel['public_id']}", json={"event_public_id": None})).status_code == 200
    assert (await admin.delete(f"/api/v1/events/{made['channel_mappings'][1]['event_public_id']}")).status_code == 200
    left = [one["event_public_id"] for one in (await admin.get(f"{path}/channels")).json()]
    assert left == [None, None, made["channel_mappings"][2]["event_public_id"]]
    assert (await admin.delete(path)).status_code == 200
    assert [one["public_id"] for one in (await admin.get("/api/v1/events")).json()["data"]] == [channel["event_public_id"]]
    package = (await uploaded(admin))[0]["public_id"]
    assert (await admin.delete(f"/api/v1/plugins/packages/{package}")).status_code == 200
    assert await uploaded(admin) == []


async def test_races_are_decided_on_postgres_too(start: Start, postgres: Postgres) -> None:
    busbar = await start(database=await postgres.migrated(), lab={"plugin_poll_seconds": 0})
    admin = await sign_in(busbar, (await busbar.person("alice")).email)
    body = {"plugin_id": "x", "instance_name": "Rig"}
    made = await asyncio.gather(*(admin.post("/api/v1/plugins", json=body) for _ in range(4)))
    assert sorted(answer.status_code for answer in made) == [201, 409, 409, 409]
    sent = await asyncio.gather(*(upload(admin) for _ in range(3)))
    assert sorted(answer.status_code for answer in sent) == [201, 409, 409]
    public_id = await update(admin)
    applied = await asyncio.gather(*(admin.post(f"/api/v1/ota/{public_id}/apply") for _ in range(4)))
    assert sorted(answer.status_code for answer in applied) == [200, 409, 409, 409]


async def test_a_user_who_goes_takes_instances_along_and_leaves_updates(start: Start, postgres: Postgres) -> None:
    busbar = await start(database=await postgres.migrated(), lab={"plugin_poll_seconds": 0})
    admin = await sign_in(busbar, (await busbar.person("alice")).email)
    other = await person(busbar, admin, "Ada", "admin")
    made = await instance(other)
    await update(other)
    assert (await admin.delete(f"/api/v1/users/{made['user_public_id']}")).status_code == 200
    assert (await admin.get("/api/v1/plugins")).json()["total"] == 0
    assert [one["user_public_id"] for one in (await admin.get("/api/v1/ota")).json()["data"]] == [None]
