"""Assignments over every door that has them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Running
from tests.doors import Refused
from tests.maker.classes import SchoolClass, agent_of, collaborate, done, made, notices, project, role_in, school_class

MEMBERS = {
    "id", "classroomId", "title", "instructions", "projectTemplateId", "maxPoints", "passPoints", "required", "dueAt", "status",
    "mySubmission", "submissionCount", "createdAt", "updatedAt",
}  # fmt: skip


@pytest.fixture
async def room(busbar: Running) -> SchoolClass:
    return await school_class(busbar, "bea", "cem")


async def test_an_assignment_has_the_contracts_defaults(room: SchoolClass) -> None:
    body = await room.assign()
    assert set(body) == MEMBERS
    assert (body["classroomId"], body["title"], body["instructions"]) == (room.id, "Blink", "")
    assert (body["maxPoints"], body["passPoints"], body["required"], body["status"]) == (100, 60, True, "published")
    assert (body["dueAt"], body["projectTemplateId"], body["mySubmission"], body["submissionCount"]) == (None, None, None, 0)
    assert done(await room.desk.get(f"/api/assignments/{body['id']}")) == body


@pytest.mark.parametrize(("most", "passes"), [(1, 1), (7, 5), (10, 6), (101, 61), (1000, 600)])
async def test_sixty_percent_rounded_up_pass(room: SchoolClass, most: int, passes: int) -> None:
    assert (await room.assign(maxPoints=most))["passPoints"] == passes


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "title"),
        ({"title": " "}, "title"),
        ({"title": "x" * 161}, "title"),
        ({"title": "x", "instructions": "i" * 20_001}, "instructions"),
        ({"title": "x", "maxPoints": 0}, "maxPoints"),
        ({"title": "x", "maxPoints": 1001}, "maxPoints"),
        ({"title": "x", "maxPoints": 1.5}, "maxPoints"),
        ({"title": "x", "maxPoints": 10, "passPoints": 11}, "passPoints"),
        ({"title": "x", "passPoints": -1}, "passPoints"),
        ({"title": "x", "required": "yes"}, "required"),
        ({"title": "x", "dueAt": "tomorrow"}, "dueAt"),
        ({"title": "x", "status": "secret"}, "status"),
    ],
)
async def test_a_bad_assignment_is_400_and_not_made(room: SchoolClass, body: dict[str, Any], field: str) -> None:
    answer = await room.desk.post(f"/api/classrooms/{room.id}/assignments", json=body)
    assert (answer.status_code, answer.json()["error"].split(":")[0]) == (400, field)
    assert done(await room.desk.get(f"/api/classrooms/{room.id}/assignments"))["assignments"] == []


async def test_a_due_time_in_the_past_is_allowed(room: SchoolClass) -> None:
    assert (await room.assign(dueAt="2020-01-01T00:00:00Z"))["dueAt"] == "2020-01-01T00:00:00.000Z"


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_assignments_come_by_due_time_and_students_see_no_drafts(busbar: Running, room: SchoolClass, door: str) -> None:
    for title, due, status in (
        ("never", None, "published"),
        ("late", "2030-01-02T00:00:00Z", "published"),
        ("draft", "2030-01-01T12:00:00Z", "draft"),
        ("early", "2030-01-01T00:00:00Z", "published"),
        ("never either", None, "closed"),
    ):
        await room.assign(title=title, dueAt=due, status=status)
    titles = {}
    for person in (room.teacher, room.student):
        client = await agent_of(busbar, person, door, "classrooms:read")
        listed = await client.call("AssignmentService.ListAssignments", classroom_id=room.id)
        titles[person.id] = [one.title for one in listed.assignments]
    assert titles[room.teacher.id] == ["early", "draft", "late", "never", "never either"]
    assert titles[room.student.id] == ["early", "late", "never", "never either"]
    counts = [done(await room.as_(one).get(f"/api/classrooms/{room.id}"))["classroom"] for one in (room.teacher, room.student)]
    assert [count["assignmentCount"] for count in counts] == [5, 4]


async def test_pages_of_assignments_hold_each_once(room: SchoolClass) -> None:
    dues = (None, "2030-01-02T00:00:00Z", None, "2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z")
    ids = [(await room.assign(title=f"a{n}", dueAt=due))["id"] for n, due in enumerate(dues)]
    seen, cursor = [], ""
    while cursor is not None:
        page = done(await room.desk.get(f"/api/classrooms/{room.id}/assignments", params={"limit": 2, "cursor": cursor}))
        seen += [one["id"] for one in page["assignments"]]
        cursor = page["nextCursor"]
    assert seen == [ids[3], ids[4], ids[1], ids[0], ids[2]]
    assert (await room.desk.get(f"/api/classrooms/{room.id}/assignments?cursor=nope")).status_code == 400


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_only_the_teacher_writes_and_others_see_nothing(busbar: Running, room: SchoolClass, door: str) -> None:
    draft, shown = await room.assign(status="draft"), await room.assign()
    calls = (
        ("CreateAssignment", {"classroom_id": room.id, "title": "x"}, "PERMISSION_DENIED", "NOT_FOUND"),
        ("UpdateAssignment", {"assignment_id": shown["id"], "title": "x"}, "PERMISSION_DENIED", "NOT_FOUND"),
        ("UpdateAssignment", {"assignment_id": draft["id"], "title": "x"}, "NOT_FOUND", "NOT_FOUND"),
        ("GetAssignment", {"assignment_id": draft["id"]}, "NOT_FOUND", "NOT_FOUND"),
        ("GetAssignment", {"assignment_id": shown["id"]}, "OK", "NOT_FOUND"),
        ("ListAssignments", {"classroom_id": room.id}, "OK", "NOT_FOUND"),
    )
    for name, fields, for_student, for_stranger in calls:
        for person, expected in ((room.student, for_student), (room.stranger, for_stranger)):
            try:
                await busbar.client(door, person.session).call(f"AssignmentService.{name}", **fields)
                code = "OK"
            except Refused as refused:
                code = refused.code
            assert (name, code) == (name, expected)
    assert [one["title"] for one in done(await room.desk.get(f"/api/classrooms/{room.id}/assignments"))["assignments"]] == [
        "Blink",
        "Blink",
    ]


async def test_patch_changes_what_it_names_and_null_clears(room: SchoolClass) -> None:
    before = await room.assign(dueAt="2030-01-01T00:00:00Z", passPoints=10)
    path = f"/api/assignments/{before['id']}"
    assert done(await room.desk.patch(path, json={})) == before
    after = done(await room.desk.patch(path, json={"dueAt": None, "passPoints": None, "maxPoints": 50, "required": False}))
    assert {key for key in after if after[key] != before[key]} == {"dueAt", "passPoints", "maxPoints", "required", "updatedAt"}
    assert (after["dueAt"], after["passPoints"]) == (None, 30)
    for bad in ({"title": None}, {"title": " "}, {"maxPoints": None}, {"status": None}, {"passPoints": 51}, {"maxPoints": 0}):
        assert (await room.desk.patch(path, json=bad)).status_code == 400
    assert done(await room.desk.get(path)) == after


async def test_over_grpc_a_mask_names_what_to_change_or_to_clear(busbar: Running, room: SchoolClass) -> None:
    before = await room.assign(dueAt="2030-01-01T00:00:00Z", instructions="Solder")
    client, rpc = busbar.client("grpc", room.teacher.session), "AssignmentService.UpdateAssignment"
    plain = await client.call(rpc, assignment_id=before["id"], title="Fade")
    assert (plain.title, plain.instructions, plain.due_at is not None) == ("Fade", "Solder", True)
    masked = await client.call(rpc, assignment_id=before["id"], title="Glow", update_mask="dueAt")
    assert (masked.title, masked.instructions, masked.due_at) == ("Fade", "Solder", None)
    with pytest.raises(Refused, match="must not be null"):
        await client.call(rpc, assignment_id=before["id"], update_mask="title")


async def test_a_status_only_goes_forward(room: SchoolClass) -> None:
    path = f"/api/assignments/{(await room.assign(status='draft'))['id']}"
    for status, code in (
        ("closed", 409),
        ("draft", 200),
        ("published", 200),
        ("draft", 409),
        ("published", 200),
        ("closed", 200),
        ("published", 409),
        ("draft", 409),
        ("closed", 200),
    ):
        assert (await room.desk.patch(path, json={"status": status})).status_code == code
    assert done(await room.desk.get(path))["status"] == "closed"


async def test_points_that_were_given_stay_within_the_most(room: SchoolClass) -> None:
    assignment = await room.assign()
    await room.grade(await room.hand_in(assignment), 80)
    path = f"/api/assignments/{assignment['id']}"
    assert (await room.desk.patch(path, json={"maxPoints": 79})).status_code == 409
    assert done(await room.desk.patch(path, json={"maxPoints": 80}))["maxPoints"] == 80


async def test_students_are_told_of_an_assignment_once_it_is_published(room: SchoolClass) -> None:
    await room.assign(title="at once")
    draft = await room.assign(title="later", status="draft")
    await room.assign(title="over", status="closed")
    assert [notice.title for notice in await notices(room.busbar, room.student)] == ["Electronics: at once"]
    for status in ("published", "published", "closed"):
        done(await room.desk.patch(f"/api/assignments/{draft['id']}", json={"status": status}))
    for student in room.students:
        told = await notices(room.busbar, student)
        assert [(notice.kind, notice.title) for notice in told] == [
            ("assignment.published", "Electronics: at once"),
            ("assignment.published", "Electronics: later"),
        ]
    assert await notices(room.busbar, room.teacher) == []


async def test_a_student_finds_their_latest_submission_and_the_teacher_a_number(room: SchoolClass) -> None:
    assignment = await room.assign()
    await room.hand_in(assignment, content="first")
    await room.hand_in(assignment, content="second")
    await room.hand_in(assignment, room.students[1], content="other")
    path = f"/api/assignments/{assignment['id']}"
    for_student = done(await room.as_(room.student).get(path))
    assert (for_student["mySubmission"]["content"], for_student["submissionCount"]) == ("second", None)
    for_teacher = done(await room.desk.get(path))
    assert (for_teacher["mySubmission"], for_teacher["submissionCount"]) == (None, 2)


async def test_a_template_is_a_project_that_the_teacher_can_read(room: SchoolClass) -> None:
    foreign, own = await project(room.busbar, room.stranger), await project(room.busbar, room.teacher)
    path = f"/api/classrooms/{room.id}/assignments"
    for template in (foreign, "nothing"):
        answer = await room.desk.post(path, json={"title": "x", "projectTemplateId": template})
        assert (answer.status_code, answer.json()["error"]) == (404, f"project {template} not found")
    assignment = made(await room.desk.post(path, json={"title": "x", "projectTemplateId": own}))
    assert assignment["projectTemplateId"] == own
    answer = await room.desk.patch(f"/api/assignments/{assignment['id']}", json={"projectTemplateId": foreign})
    assert answer.status_code == 404
    cleared = done(await room.desk.patch(f"/api/assignments/{assignment['id']}", json={"projectTemplateId": None}))
    assert cleared["projectTemplateId"] is None


async def test_students_read_the_template_of_what_they_see(room: SchoolClass) -> None:
    own, shared = await project(room.busbar, room.teacher), await project(room.busbar, room.stranger)
    draft = await room.assign(projectTemplateId=own, status="draft")
    assert await role_in(room.busbar, own, room.student) is None
    done(await room.desk.patch(f"/api/assignments/{draft['id']}", json={"status": "published"}))
    assert await role_in(room.busbar, own, room.student) == "viewer"
    await collaborate(room.busbar, shared, room.stranger, room.teacher)
    await room.assign(projectTemplateId=shared)
    assert await role_in(room.busbar, shared, room.student) == "viewer"
    done(await room.desk.delete(f"/api/classrooms/{room.id}/members/{room.student.id}"))
    assert await role_in(room.busbar, own, room.student) is None
