"""People of a lab, and things that are measured in it."""

from __future__ import annotations

import httpx
import pytest

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
