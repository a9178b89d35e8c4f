"""People of a lab, and things that are measured in it."""

from __future__ import annotations

import httpx
import pytest

from core.lab.event_directory import EventDirectory
from core.lab.event_tables import EventRow
from core.lab.ids import new_public_id
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


async def linked(busbar: Running, owner: Person, device: str, channel: str, name: str = "Temperature") -> str:
    """Make an event of a channel that exists, and return its id."""
    signals = busbar.app.signals
    found = signals.find_device(owner.org_id, device)
    assert found is not None
    known = signals.find_channel(found.id, channel)
    assert known is not None
    row = EventRow(
        public_id=new_public_id(),
        org_id=owner.org_id,
        channel_id=known.id,
        device_id=found.id,
        linked=True,
        name=name,
        min_value=0,
        max_value=1,
        unit="K",
        type="sensor",
        user_id=owner.id,
        created_us=0,
    )
    async with busbar.app.database.unit_of_work() as session:
        session.add(row)
    busbar.app.found.part(EventDirectory).put(row)
    return row.public_id
