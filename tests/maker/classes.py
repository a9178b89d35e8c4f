"""A class to test with: a teacher, students, and what they do, over REST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlmodel import col, select

from core.maker.tables import NotificationRow
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.maker.workshop import carried_out


@dataclass
class SchoolClass:
    """A classroom with its people."""

    busbar: Running
    teacher: Person
    students: list[Person]
    stranger: Person
    id: str
    join_code: str

    @property
    def student(self) -> Person:
        """The first student."""
        return self.students[0]

    @property
    def desk(self) -> httpx.AsyncClient:
        """HTTP as the teacher."""
        return self.busbar.http(self.teacher.session)

    def as_(self, person: Person) -> httpx.AsyncClient:
        """HTTP as somebody."""
        return self.busbar.http(person.session)

    async def assign(self, **fields: Any) -> Any:
        """Make an assignment."""
        body = {"title": "Blink", **fields}
        return made(await self.desk.post(f"/api/classrooms/{self.id}/assignments", json=body))

    async def hand_in(self, assignment: Any, person: Person | None = None, **fields: Any) -> Any:
        """Hand something in."""
        body = fields or {"content": "done"}
        client = self.as_(person or self.student)
        return made(await client.post(f"/api/assignments/{assignment['id']}/submissions", json=body))

    async def grade(self, submission: Any, points: float, **fields: Any) -> Any:
        """Grade a submission."""
        body = {"points": points, **fields}
        return done(await self.desk.post(f"/api/submissions/{submission['id']}/grade", json=body))

    async def certificates(self, person: Person | None = None) -> list[Any]:
        """Return somebody's certificates."""
        return done(await self.as_(person or self.student).get("/api/me/certificates"))["certificates"]


def made(answer: httpx.Response) -> Any:
    """Return the body of a 201."""
    assert answer.status_code == 201, answer.text
    return answer.json()


def done(answer: httpx.Response) -> Any:
    """Return the body of a 200."""
    assert answer.status_code == 200, answer.text
    return answer.json()


async def school_class(busbar: Running, *names: str) -> SchoolClass:
    """Make a class with some students."""
    teacher, stranger = await busbar.person("teacher"), await busbar.person("stranger")
    students = [await busbar.person(name) for name in names]
    room = made(await busbar.http(teacher.session).post("/api/classrooms", json={"name": "Electronics"}))
    for student in students:
        done(await busbar.http(student.session).post("/api/classrooms/join", json={"joinCode": room["joinCode"]}))
    return SchoolClass(busbar, teacher, students, stranger, room["id"], room["joinCode"])


async def on(kind: str, request: pytest.FixtureRequest, start: Start) -> Running:
    """Start a server on a kind of database."""
    if kind == "sqlite":
        return await start()
    return await start(database=await request.getfixturevalue("postgres").migrated())


async def notices(busbar: Running, person: Person) -> list[NotificationRow]:
    """Return what somebody was notified of, oldest first, once every side effect that is due was carried out."""
    await carried_out(busbar)
    async with busbar.app.database.read() as session:
        query = select(NotificationRow).where(col(NotificationRow.user_id) == person.id)
        return list((await session.exec(query.order_by(col(NotificationRow.created_us), col(NotificationRow.id)))).all())


async def project(busbar: Running, owner: Person, *, visibility: str = "private") -> str:
    """Make a project and return its id."""
    body = {"name": "Lamp", "visibility": visibility}
    return made(await busbar.http(owner.session).post("/api/projects", json=body))["id"]


async def collaborate(busbar: Running, project_id: str, owner: Person, person: Person) -> None:
    """Make somebody a viewer of a project."""
    body = {"userId": person.id, "role": "viewer"}
    made(await busbar.http(owner.session).post(f"/api/projects/{project_id}/collaborators", json=body))


async def role_in(busbar: Running, project_id: str, person: Person) -> str | None:
    """Return somebody's role in a project; None where it does not exist for them."""
    answer = await busbar.http(person.session).get(f"/api/projects/{project_id}")
    if answer.status_code == 404:
        return None
    return done(answer)["role"]


async def agent_of(busbar: Running, person: Person, door: str, *scopes: str) -> Any:
    """Return a client of somebody's at a door, with a key where the door takes no session."""
    if door != "mcp":
        return busbar.client(door, person.session)
    return busbar.client(door, await busbar.key(person, CredentialKind.AGENT_KEY, *scopes))
