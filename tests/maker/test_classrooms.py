"""Classrooms and rosters over every door that has them."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tests.conftest import Person, Running, Start
from tests.databases import postgres
from tests.doors import Refused
from tests.maker.classes import SchoolClass, agent_of, done, made, on, school_class

__all__ = ["postgres"]

MEMBERS = {
    "id", "teacherId", "teacher", "name", "description", "joinCode", "studentCount", "assignmentCount", "role", "archived",
    "createdAt", "updatedAt",
}  # fmt: skip
ROSTER_MEMBERS = {
    "id", "userId", "username", "displayName", "avatarUrl", "role", "status", "joinedAt", "invitedAt",
}  # fmt: skip
CODE = re.compile(r"[A-HJ-NP-Z2-9]{8}")


@pytest.fixture
async def room(busbar: Running) -> SchoolClass:
    return await school_class(busbar, "bea", "cem")


async def test_whoever_makes_a_classroom_teaches_it(busbar: Running, alice: Person) -> None:
    answer = await busbar.http(alice.session).post("/api/classrooms", json={"name": "Electronics", "description": "For all"})
    body = made(answer)
    assert set(body) == MEMBERS
    assert answer.headers["location"] == f"/api/classrooms/{body['id']}"
    assert CODE.fullmatch(body["joinCode"])
    assert body["teacher"] == {"id": alice.id, "username": "alice", "displayName": "alice"}
    assert (body["teacherId"], body["role"], body["archived"]) == (alice.id, "teacher", False)
    assert (body["studentCount"], body["assignmentCount"], body["description"]) == (0, 0, "For all")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": 3}, "name"),
        ({"name": "x", "description": "d" * 5001}, "description"),
    ],
)
async def test_a_bad_classroom_is_400_and_not_made(busbar: Running, alice: Person, body: dict[str, Any], field: str) -> None:
    client = busbar.http(alice.session)
    answer = await client.post("/api/classrooms", json=body)
    assert (answer.status_code, answer.json()["error"].split(":")[0]) == (400, field)
    assert done(await client.get("/api/classrooms")) == {"classrooms": [], "nextCursor": None}


async def test_a_server_may_let_only_teachers_teach(start: Start) -> None:
    busbar = await start(classrooms={"teachers_only": True})
    alice = await busbar.person("alice")
    refused = await busbar.http(alice.session).post("/api/classrooms", json={"name": "Mine"})
    assert refused.status_code == 403
    account = await busbar.app.identity.register("t@example.com", "correct horse battery", username="tea", role="teacher")
    assert account.session is not None
    room = made(await busbar.http(account.session.secret).post("/api/classrooms", json={"name": "Mine"}))
    assert done(await busbar.http(alice.session).post("/api/classrooms/join", json={"joinCode": room["joinCode"]}))


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_taught_and_joined_classrooms_are_listed_with_the_archived_ones_last(
    busbar: Running, room: SchoolClass, door: str
) -> None:
    own = made(await room.as_(room.student).post("/api/classrooms", json={"name": "Own"}))
    over = made(await room.as_(room.student).post("/api/classrooms", json={"name": "Over"}))
    done(await room.as_(room.student).patch(f"/api/classrooms/{over['id']}", json={"archived": True}))
    client = await agent_of(busbar, room.student, door, "classrooms:read")
    listed = (await client.call("ClassroomService.ListClassrooms")).classrooms
    assert [(one.id, one.role, one.archived) for one in listed] == [
        (own["id"], "teacher", False),
        (room.id, "student", False),
        (over["id"], "teacher", True),
    ]
    assert [one.has_field("join_code") for one in listed] == [True, False, True]


async def test_pages_of_classrooms_hold_each_once(busbar: Running, alice: Person) -> None:
    client = busbar.http(alice.session)
    ids = [made(await client.post("/api/classrooms", json={"name": f"Room {n}"}))["id"] for n in range(5)]
    for archived in (ids[4], ids[1]):
        done(await client.patch(f"/api/classrooms/{archived}", json={"archived": True}))
    seen, cursor = [], ""
    while cursor is not None:
        page = done(await client.get("/api/classrooms", params={"limit": 2, "cursor": cursor}))
        seen += [one["id"] for one in page["classrooms"]]
        cursor = page["nextCursor"]
    assert seen == [ids[3], ids[2], ids[0], ids[4], ids[1]]
    assert (await client.get("/api/classrooms?cursor=!!!")).status_code == 400


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_a_roster_is_in_the_order_of_names(busbar: Running, room: SchoolClass, door: str) -> None:
    for name, shown in (("zoe", "Ämil"), ("abe", "Abe"), ("dan", "älva")):
        account = await busbar.app.identity.register(
            f"{name}@example.com", "correct horse battery", username=name, display_name=shown
        )
        assert account.session is not None
        done(await busbar.http(account.session.secret).post("/api/classrooms/join", json={"joinCode": room.join_code}))
    client = await agent_of(busbar, room.student, door, "classrooms:read")
    view = await client.call("ClassroomService.GetClassroom", classroom_id=room.id)
    assert [member.display_name for member in view.students] == ["Abe", "bea", "cem", "älva", "Ämil"]
    assert [(member.username, member.role) for member in view.teachers] == [("teacher", "teacher")]
    assert (view.role, view.classroom.student_count) == ("student", 5)


async def test_students_see_names_but_neither_addresses_nor_the_code(room: SchoolClass) -> None:
    answers = {person.id: await room.as_(person).get(f"/api/classrooms/{room.id}") for person in (room.teacher, room.student)}
    for answer in answers.values():
        assert "example.com" not in answer.text
        assert {frozenset(member) for member in done(answer)["students"]} == {frozenset(ROSTER_MEMBERS)}
    for_student = answers[room.student.id].json()
    assert for_student["classroom"]["joinCode"] is None
    assert room.join_code not in answers[room.student.id].text
    assert for_student["students"] == answers[room.teacher.id].json()["students"]
    member = for_student["students"][0]
    assert (member["userId"], member["status"], member["role"]) == (room.student.id, "active", "student")
    assert (member["joinedAt"][-1], member["invitedAt"]) == ("Z", None)


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_classroom_does_not_exist_for_others(busbar: Running, room: SchoolClass, door: str) -> None:
    client = busbar.client(door, room.stranger.session)
    for name, more in (
        ("GetClassroom", {}),
        ("UpdateClassroom", {"name": "Mine"}),
        ("RotateJoinCode", {}),
        ("RemoveClassroomMember", {"user_id": room.student.id}),
    ):
        with pytest.raises(Refused) as refused:
            await client.call(f"ClassroomService.{name}", classroom_id=room.id, **more)
        assert refused.value.code == "NOT_FOUND"
    assert len(done(await room.desk.get(f"/api/classrooms/{room.id}"))["students"]) == 2


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_student_changes_nothing_but_their_own_place(busbar: Running, room: SchoolClass, door: str) -> None:
    client = busbar.client(door, room.student.session)
    for name, more in (
        ("UpdateClassroom", {"name": "Mine"}),
        ("RotateJoinCode", {}),
        ("RemoveClassroomMember", {"user_id": room.students[1].id}),
        ("RemoveClassroomMember", {"user_id": room.teacher.id}),
    ):
        with pytest.raises(Refused) as refused:
            await client.call(f"ClassroomService.{name}", classroom_id=room.id, **more)
        assert refused.value.code == "PERMISSION_DENIED"
    await client.call("ClassroomService.RemoveClassroomMember", classroom_id=room.id, user_id=room.student.id)
    assert (await room.as_(room.student).get(f"/api/classrooms/{room.id}")).status_code == 404


async def test_a_teacher_removes_students_but_cannot_leave(room: SchoolClass) -> None:
    path = f"/api/classrooms/{room.id}/members"
    for _ in range(2):
        assert done(await room.desk.delete(f"{path}/{room.student.id}")) == {"ok": True}
    assert (await room.as_(room.student).get(f"/api/classrooms/{room.id}")).status_code == 404
    assert (await room.desk.delete(f"{path}/{room.teacher.id}")).status_code == 403
    assert done(await room.desk.get(f"/api/classrooms/{room.id}"))["classroom"]["studentCount"] == 1


async def test_patch_changes_what_it_names(room: SchoolClass) -> None:
    path = f"/api/classrooms/{room.id}"
    before = done(await room.desk.get(path))["classroom"]
    assert done(await room.desk.patch(path, json={})) == before
    after = done(await room.desk.patch(path, json={"name": "Optics", "archived": True, "unknown": 1}))
    assert {key for key in after if after[key] != before[key]} == {"name", "archived", "updatedAt"}
    for bad in ({"name": None}, {"name": ""}, {"name": " "}, {"archived": "yes"}, {"archived": None}, {"description": None}):
        assert (await room.desk.patch(path, json=bad)).status_code == 400
    assert done(await room.desk.get(path))["classroom"] == after


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_joining_is_done_once_however_often_it_is_asked(busbar: Running, room: SchoolClass, door: str) -> None:
    client = busbar.client(door, room.stranger.session)
    typed = f" {room.join_code[:4].lower()}-{room.join_code[4:]} "
    for code in (room.join_code, typed):
        joined = await client.call("ClassroomService.JoinClassroom", join_code=code)
        assert (joined.id, joined.role, joined.student_count, joined.has_field("join_code")) == (room.id, "student", 3, False)


async def test_the_teacher_cannot_join_as_a_student(room: SchoolClass) -> None:
    answer = await room.desk.post("/api/classrooms/join", json={"joinCode": room.join_code})
    assert answer.status_code == 409
    assert done(await room.desk.get(f"/api/classrooms/{room.id}"))["role"] == "teacher"


async def test_nobody_new_joins_an_archived_classroom(room: SchoolClass) -> None:
    done(await room.desk.patch(f"/api/classrooms/{room.id}", json={"archived": True}))
    for person, status in ((room.student, 200), (room.stranger, 409)):
        answer = await room.as_(person).post("/api/classrooms/join", json={"joinCode": room.join_code})
        assert answer.status_code == status


async def test_a_rotated_code_dies_at_once_and_members_stay(room: SchoolClass) -> None:
    fresh = done(await room.desk.post(f"/api/classrooms/{room.id}/join-code"))
    assert CODE.fullmatch(fresh["joinCode"])
    assert fresh["studentCount"] == 2
    stranger = room.as_(room.stranger)
    assert (await stranger.post("/api/classrooms/join", json={"joinCode": room.join_code})).status_code == 404
    assert done(await stranger.post("/api/classrooms/join", json={"joinCode": fresh["joinCode"]}))["studentCount"] == 3


async def test_guessing_codes_comes_to_an_end(start: Start) -> None:
    busbar = await start(rate_limits="on")
    teacher, guesser = await busbar.person("teacher"), await busbar.person("guesser")
    room = made(await busbar.http(teacher.session).post("/api/classrooms", json={"name": "Electronics"}))
    client = busbar.http(guesser.session)
    for _ in range(10):
        assert (await client.post("/api/classrooms/join", json={"joinCode": "AAAAAAAA"})).status_code == 404
    refused = await client.post("/api/classrooms/join", json={"joinCode": room["joinCode"]})
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 600
    assert done(await busbar.http(teacher.session).get(f"/api/classrooms/{room['id']}"))["students"] == []


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_joining_twice_at_once_makes_one_student(start: Start, kind: str, request: pytest.FixtureRequest) -> None:
    room = await school_class(await on(kind, request, start))
    clients = [room.busbar.client("rest", room.stranger.session).http for _ in range(6)]
    headers = {"Authorization": f"Bearer {room.stranger.session}"}
    body = {"joinCode": room.join_code}
    answers = await asyncio.gather(*(c.post("/api/classrooms/join", json=body, headers=headers) for c in clients))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len(done(await room.desk.get(f"/api/classrooms/{room.id}"))["students"]) == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_code_that_is_replaced_at_that_moment_works_or_does_not(
    start: Start, kind: str, request: pytest.FixtureRequest
) -> None:
    room = await school_class(await on(kind, request, start))
    joined, rotated = await asyncio.gather(
        room.as_(room.stranger).post("/api/classrooms/join", json={"joinCode": room.join_code}),
        room.desk.post(f"/api/classrooms/{room.id}/join-code"),
    )
    assert (rotated.status_code, joined.status_code) in {(200, 200), (200, 404)}
    students = done(await room.desk.get(f"/api/classrooms/{room.id}"))["students"]
    assert len(students) == (joined.status_code == 200)


async def test_a_key_needs_the_scope_of_classrooms(busbar: Running, room: SchoolClass) -> None:
    reader = await agent_of(busbar, room.teacher, "mcp", "boards:read")
    with pytest.raises(Refused, match="insufficient scope: classrooms:read required"):
        await reader.call("ClassroomService.ListClassrooms")
