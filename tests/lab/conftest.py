"""People of a lab, and events whose datapoints count."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest

from core.lab.event_directory import EventDirectory
from tests.conftest import PASSWORD, Person, Running


async def sign_in(busbar: Running, email: str, password: str = PASSWORD) -> httpx.AsyncClient:
    """Return a client that has signed in."""
    answer = await busbar.http().post("/api/v1/auth/login", json={"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    return busbar.http(answer.json()["access_token"], **{"X-Nothing": "1"})


@pytest.fixture
async def admin(busbar: Running, alice: Person) -> httpx.AsyncClient:
    """The administrator of a lab."""
    return await sign_in(busbar, alice.email)


async def person(busbar: Running, admin: httpx.AsyncClient, name: str, role: str) -> httpx.AsyncClient:
    """Make a user of the lab and sign them in."""
    body = {"email": f"{name.lower().replace(' ', '.')}@lab.local", "username": name, "password": PASSWORD, "role": role}
    answer = await admin.post("/api/v1/users", json=body)
    assert (answer.status_code, answer.json()) == (201, {"status": "success", "message": "User successfully created."})
    return await sign_in(busbar, body["email"])


MakeEvent = Callable[..., Awaitable[str]]
"""Makes an event whose datapoints count, and returns its id."""


@pytest.fixture
def mapped(busbar: Running) -> set[str]:
    """Ids of events that count as mapped to a channel of an enabled plugin instance."""
    ids: set[str] = set()
    busbar.app.found.part(EventDirectory).on_mapping(lambda _org_id, public_id: public_id in ids)
    return ids


async def make_event(client: httpx.AsyncClient, name: str, **values: object) -> str:
    """Make an event and return its id, which one learns by listing."""
    body = {"name": name, "min_value": 0, "max_value": 100, "unit": "°C", "type": "sensor", **values}
    answer = await client.post("/api/v1/events", json=body)
    assert (answer.status_code, answer.json()["message"]) == (201, "Event successfully created."), answer.text
    events = (await client.get("/api/v1/events", params={"page_size": 100})).json()["data"]
    return next(event["public_id"] for event in events if event["name"] == name)


@pytest.fixture
def event(admin: httpx.AsyncClient, mapped: set[str]) -> MakeEvent:
    """Makes events whose datapoints count."""

    async def make(name: str = "Temperature", **values: object) -> str:
        public_id = await make_event(admin, name, **values)
        mapped.add(public_id)
        return public_id

    return make


async def linked(busbar: Running, owner: Person, source: str, metric: str, name: str = "Temperature") -> str:
    """Make an event of a pin or a metric, and return its id."""
    body = {"source_id": source, "metric": metric, "name": name}
    made = await busbar.client("grpc", owner.session).call("EventService.LinkEvent", **body)
    return made.public_id
