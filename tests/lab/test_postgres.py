"""The lab on PostgreSQL: what it asks of storage in a way of its own there."""

from __future__ import annotations

from core.lab.erasing import Erasing
from core.lab.event_directory import EventDirectory
from tests.conftest import Start
from tests.databases import Postgres, postgres
from tests.lab.conftest import make_event, sign_in
from tests.lab.test_datapoints import send, series
from tests.lab.test_experiments import begin, export

__all__ = ["postgres"]


async def test_a_lab_measures_charts_exports_and_forgets(start: Start, postgres: Postgres) -> None:
    busbar = await start(database=await postgres.migrated())
    admin = await sign_in(busbar, (await busbar.person("alice")).email)
    busbar.app.found.part(EventDirectory).on_mapping(lambda _org_id, _event: True)
    first, second = await make_event(admin, "first"), await make_event(admin, "second")
    refused = await admin.post("/api/v1/events", json={**(await admin.get(f"/api/v1/events/{first}")).json(), "name": "second"})
    assert refused.status_code == 409
    run = await begin(admin, "run")
    assert (await admin.post("/api/v1/experiments", json={"name": "run"})).status_code == 409
    for start_value in (0, 100, 200):
        values = range(start_value, start_value + 100)
        await send(admin, *((event, value) for value in values for event in (first, second)))
    places = [int(i * 7.5) for i in range(39)] + [299]
    found = await series(admin, first, max_points=40)
    assert [point["value"] for point in found[first]] == [float(place) for place in places]
    page = (await admin.get("/api/v1/datapoints", params={"page": 2, "page_size": 100})).json()
    assert (page["total"], page["data"][0]["value"], page["data"][-1]["value"]) == (600, 249.0, 200.0)
    assert len(await export(admin, run)) == 600
    newest = (await admin.get("/api/v1/datapoints/latest")).json()[0]
    await admin.delete(f"/api/v1/datapoints/{newest['public_id']}")
    assert (await admin.get("/api/v1/datapoints/latest")).json()[0]["value"] == 298.0
    await send(admin, (first, 1))
    await admin.delete(f"/api/v1/events/{second}")
    assert (await admin.get("/api/v1/datapoints")).json()["total"] == 300
    await admin.delete(f"/api/v1/experiments/{run}")
    assert (await admin.get("/api/v1/datapoints")).json()["total"] == 0
    await busbar.app.found.part(Erasing).settled()
    left = await busbar.app.database.query(lambda tx: tx.fetch("SELECT count(*) FROM point"))
    assert left[0][0] == 0
