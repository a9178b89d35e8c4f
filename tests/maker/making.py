"""What tests of projects need made first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from tests.conftest import Person, Running


async def project(busbar: Running, owner: Person, name: str = "Weather", **fields: Any) -> dict[str, Any]:
    """Make a project over REST and return it."""
    answer = await busbar.http(owner.session).post("/api/projects", json={"name": name, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def member(busbar: Running, owner: Person, project_id: str, name: str, role: str) -> Person:
    """Register somebody and make them a collaborator."""
    person = await busbar.person(name)
    body = {"userId": person.id, "role": role}
    answer = await busbar.http(owner.session).post(f"/api/projects/{project_id}/collaborators", json=body)
    assert answer.status_code == 201, answer.text
    return person


async def attach(busbar: Running, owner: Person, project_id: str, board_id: str) -> None:
    """Attach a board."""
    answer = await busbar.http(owner.session).post(f"/api/projects/{project_id}/boards/{board_id}")
    assert answer.status_code == 200, answer.text


async def until(read: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool]) -> Any:
    """Read again and again until it is as wanted; side effects are carried out in the background."""

    async def look() -> Any:
        # The outbox tells nobody when a row has been carried out.
        while not wanted(found := await read()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return found

    return await asyncio.wait_for(look(), 60)


async def notices(busbar: Running, person: Person, count: int) -> list[dict[str, Any]]:
    """Return somebody's notifications, newest first, as soon as there are that many."""

    async def read() -> list[dict[str, Any]]:
        return (await busbar.http(person.session).get("/api/me/notifications")).json()["notifications"]

    return await until(read, lambda found: len(found) >= count)


async def take(stream: AsyncIterator[Any]) -> Any:
    """Return the next message of a stream."""
    return await asyncio.wait_for(anext(stream), 60)
