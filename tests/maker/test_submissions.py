"""Submissions and grades over every door that has them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import Running, Start
from tests.databases import postgres
from tests.doors import Refused
from tests.maker.classes import SchoolClass, agent_of, collaborate, done, made, notices, on, project, role_in, school_class

__all__ = ["postgres"]

MEMBERS = {
    "id", "assignmentId", "student", "projectId", "content", "url", "attempt", "late", "status", "points", "feedback",
    "gradedAt", "submittedAt",
}  # fmt: skip


@pytest.fixture
async def room(busbar: Running) -> SchoolClass:
    return await school_class(busbar, "bea", "cem")


async def test_a_student_hands_in_and_the_teacher_is_told(room: SchoolClass) -> None:
    assignment = await room.assign()
    body = await room.hand_in(assignment, content="My lamp", url="https://example.com/lamp")
    assert set(body) == MEMBERS
    assert (body["assignmentId"], body["content"], body["url"]) == (assignment["id"], "My lamp", "https://example.com/lamp")
    assert (body["attempt"], body["late"], body["status"]) == (1, False, "submitted")
    assert (body["points"], body["feedback"], body["gradedAt"], body["projectId"]) == (None, None, None, None)
    assert (body["student"]["userId"], body["student"]["role"]) == (room.student.id, "student")
    [told] = await notices(room.busbar, room.teacher)
    assert (told.kind, told.title) == ("submission.received", "bea handed in Blink")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "content"),
        ({"content": ""}, "content"),
        ({"content": "  "}, "content"),
        ({"content": None, "url": None, "projectId": None}, "content"),
        ({"content": "c" * 50_001}, "content"),
        ({"content": 5}, "content"),
        ({"url": "javascript:alert(1)"}, "url"),
        ({"url": "https://e.example/" + "x" * 2048}, "url"),
    ],
)
async def test_a_bad_submission_is_400_and_not_kept(room: SchoolClass, body: dict[str, Any], field: str) -> None:
    assignment = await room.assign()
    answer = await room.as_(room.student).post(f"/api/assignments/{assignment['id']}/submissions", json=body)
    assert (answer.status_code, answer.json()["error"].split(":")[0]) == (400, field)
    assert done(await room.desk.get(f"/api/assignments/{assignment['id']}/submissions"))["submissions"] == []


async def test_after_the_due_time_it_is_taken_and_marked_late(room: SchoolClass) -> None:
    early, late = await room.assign(dueAt="2099-01-01T00:00:00Z"), await room.assign(dueAt="2020-01-01T00:00:00Z")
    assert [(await room.hand_in(assignment))["late"] for assignment in (early, late)] == [False, True]


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_who_may_hand_in_where(busbar: Running, room: SchoolClass, door: str) -> None:
    draft, shown, over = [await room.assign(status=status) for status in ("draft", "published", "closed")]
    for person, assignment, expected in (
        (room.teacher, shown, "PERMISSION_DENIED"),
        (room.teacher, draft, "PERMISSION_DENIED"),
        (room.stranger, shown, "NOT_FOUND"),
        (room.student, draft, "NOT_FOUND"),
        (room.student, over, "CONFLICT"),
    ):
        client = busbar.client(door, person.session)
        with pytest.raises(Refused) as refused:
            await client.call("SubmissionService.CreateSubmission", assignment_id=assignment["id"], content="x")
        assert refused.value.code == expected


async def test_a_further_one_takes_the_place_of_what_was_not_graded(room: SchoolClass) -> None:
    assignment = await room.assign()
    first = await room.hand_in(assignment, content="one")
    second = await room.hand_in(assignment, content="two")
    assert (first["attempt"], second["attempt"]) == (1, 2)
    [kept] = done(await room.desk.get(f"/api/assignments/{assignment['id']}/submissions"))["submissions"]
    assert kept == second
    assert (await room.desk.post(f"/api/submissions/{first['id']}/grade", json={"points": 1})).status_code == 404


async def test_after_grading_only_a_returned_one_may_be_followed(room: SchoolClass) -> None:
    assignment = await room.assign()
    first = await room.hand_in(assignment)
    await room.grade(first, 10, feedback="thin")
    path = f"/api/assignments/{assignment['id']}/submissions"
    assert (await room.as_(room.student).post(path, json={"content": "more"})).status_code == 409
    returned = done(await room.desk.post(f"/api/submissions/{first['id']}/return", json={"feedback": "once more"}))
    assert (returned["status"], returned["points"], returned["feedback"]) == ("returned", 10, "once more")
    second = made(await room.as_(room.student).post(path, json={"content": "more"}))
    assert second["attempt"] == 2
    listed = done(await room.desk.get(path))["submissions"]
    assert [(one["attempt"], one["status"]) for one in listed] == [(2, "submitted"), (1, "returned")]


async def test_returning_without_words_keeps_those_that_were_said(room: SchoolClass) -> None:
    first = await room.hand_in(await room.assign())
    await room.grade(first, 10, feedback="thin")
    path = f"/api/submissions/{first['id']}/return"
    assert done(await room.desk.post(path))["feedback"] == "thin"
    assert (await room.desk.post(path)).status_code == 409
    assert (await room.desk.post(f"/api/submissions/{first['id']}/grade", json={"points": 1})).status_code == 409


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_submissions_are_listed_by_student_and_latest_attempt(busbar: Running, room: SchoolClass, door: str) -> None:
    assignment = await room.assign()
    for student in reversed(room.students):
        first = await room.hand_in(assignment, student)
        done(await room.desk.post(f"/api/submissions/{first['id']}/return"))
        await room.hand_in(assignment, student)
    client = await agent_of(busbar, room.teacher, door, "classrooms:read")
    rpc = "SubmissionService.ListSubmissions"
    listed = (await client.call(rpc, assignment_id=assignment["id"])).submissions
    assert [(one.student.display_name, one.attempt) for one in listed] == [("bea", 2), ("bea", 1), ("cem", 2), ("cem", 1)]
    waiting = (await client.call(rpc, assignment_id=assignment["id"], status="submitted")).submissions
    assert [(one.student.display_name, one.attempt) for one in waiting] == [("bea", 2), ("cem", 2)]
    seen, cursor = [], ""
    while True:
        page = await client.call(rpc, assignment_id=assignment["id"], limit=1, cursor=cursor)
        seen += [one.id for one in page.submissions]
        if not page.has_field("next_cursor"):
            break
        cursor = page.next_cursor
    assert seen == [one.id for one in listed]


async def test_what_is_asked_of_a_list_must_make_sense(room: SchoolClass) -> None:
    path = f"/api/assignments/{(await room.assign())['id']}/submissions"
    for query in ("status=lost", "cursor=nope", "limit=many"):
        assert (await room.desk.get(f"{path}?{query}")).status_code == 400
    assert done(await room.desk.get(f"{path}?limit=1000")) == {"submissions": [], "nextCursor": None}


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_only_the_teacher_lists_and_judges(busbar: Running, room: SchoolClass, door: str) -> None:
    assignment = await room.assign()
    submission = await room.hand_in(assignment)
    calls = (
        ("ListSubmissions", {"assignment_id": assignment["id"]}, "PERMISSION_DENIED"),
        ("GradeSubmission", {"submission_id": submission["id"], "points": 100}, "NOT_FOUND"),
        ("ReturnSubmission", {"submission_id": submission["id"]}, "NOT_FOUND"),
    )
    for name, fields, for_classmate in calls:
        for person, expected in (
            (room.student, "PERMISSION_DENIED"),
            (room.students[1], for_classmate),
            (room.stranger, "NOT_FOUND"),
        ):
            with pytest.raises(Refused) as refused:
                await busbar.client(door, person.session).call(f"SubmissionService.{name}", **fields)
            assert (name, refused.value.code) == (name, expected)


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_grading_again_replaces_the_grade_and_the_student_is_told(busbar: Running, room: SchoolClass, door: str) -> None:
    submission = await room.hand_in(await room.assign(maxPoints=20, required=False))
    client = busbar.client(door, room.teacher.session)
    rpc = "SubmissionService.GradeSubmission"
    first = await client.call(rpc, submission_id=submission["id"], points=12.5, feedback="good")
    assert (first.status, first.points, first.feedback, first.graded_at is not None) == ("graded", 12.5, "good", True)
    again = await client.call(rpc, submission_id=submission["id"], points=0)
    assert (again.status, again.points, again.has_field("feedback")) == ("graded", 0, False)
    told = [(notice.kind, notice.title) for notice in await notices(busbar, room.student)]
    assert told[1:] == [("submission.graded", "Blink: 12.5 of 20 points"), ("submission.graded", "Blink: 0 of 20 points")]


@pytest.mark.parametrize("points", [-1, 20.5, 1001, None, "many", "NaN"])
async def test_a_grade_lies_between_nothing_and_the_most(room: SchoolClass, points: Any) -> None:
    assignment = await room.assign(maxPoints=20)
    submission = await room.hand_in(assignment)
    answer = await room.desk.post(f"/api/submissions/{submission['id']}/grade", json={"points": points})
    assert (answer.status_code, answer.json()["error"].split(":")[0]) == (400, "points")
    assert (await room.desk.post(f"/api/submissions/{submission['id']}/grade", json={})).status_code == 400
    [kept] = done(await room.desk.get(f"/api/assignments/{assignment['id']}/submissions"))["submissions"]
    assert kept == submission


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_of_racing_submissions_the_last_attempt_is_kept(start: Start, kind: str, request: pytest.FixtureRequest) -> None:
    room = await school_class(await on(kind, request, start), "bea")
    assignment = await room.assign()
    bodies = await asyncio.gather(*(room.hand_in(assignment, content=f"try {n}") for n in range(6)))
    assert sorted(body["attempt"] for body in bodies) == [1, 2, 3, 4, 5, 6]
    [kept] = done(await room.desk.get(f"/api/assignments/{assignment['id']}/submissions"))["submissions"]
    assert kept == max(bodies, key=lambda body: body["attempt"])


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_of_a_grade_and_a_further_attempt_at_once_one_wins(
    start: Start, kind: str, request: pytest.FixtureRequest
) -> None:
    room = await school_class(await on(kind, request, start), "bea")
    assignment = await room.assign(required=False)
    for _ in range(5):
        first = await room.hand_in(assignment)
        graded, further = await asyncio.gather(
            room.desk.post(f"/api/submissions/{first['id']}/grade", json={"points": 5}),
            room.as_(room.student).post(f"/api/assignments/{assignment['id']}/submissions", json={"content": "more"}),
        )
        assert (graded.status_code, further.status_code) in {(200, 409), (404, 201)}
        last = first if graded.status_code == 200 else further.json()
        done(await room.desk.post(f"/api/submissions/{last['id']}/return"))


async def test_a_project_is_handed_in_only_by_who_can_read_it(room: SchoolClass) -> None:
    assignment = await room.assign()
    path = f"/api/assignments/{assignment['id']}/submissions"
    foreign, public = await project(room.busbar, room.stranger), await project(room.busbar, room.stranger, visibility="public")
    refused = await room.as_(room.student).post(path, json={"projectId": foreign})
    assert (refused.status_code, refused.json()["error"]) == (404, f"project {foreign} not found")
    assert (await room.hand_in(assignment, projectId=public))["projectId"] == public


async def test_the_teacher_reads_a_project_while_it_is_handed_in(room: SchoolClass) -> None:
    assignment, lamp = await room.assign(), await project(room.busbar, room.student)
    assert await role_in(room.busbar, lamp, room.teacher) is None
    submission = await room.hand_in(assignment, projectId=lamp)
    assert await role_in(room.busbar, lamp, room.teacher) == "viewer"
    renamed = await room.desk.patch(f"/api/projects/{lamp}", json={"name": "Mine"})
    assert renamed.status_code == 403
    await room.grade(submission, 5)
    assert await role_in(room.busbar, lamp, room.teacher) == "viewer"
    for other in (room.students[1], room.stranger):
        assert await role_in(room.busbar, lamp, other) is None
    done(await room.desk.post(f"/api/submissions/{submission['id']}/return"))
    assert await role_in(room.busbar, lamp, room.teacher) is None


async def test_a_project_that_was_replaced_is_private_again(room: SchoolClass) -> None:
    assignment, lamp = await room.assign(), await project(room.busbar, room.student)
    await room.hand_in(assignment, projectId=lamp)
    await room.hand_in(assignment, content="words instead")
    assert await role_in(room.busbar, lamp, room.teacher) is None


async def test_nobody_hands_on_what_they_can_read_no_more(room: SchoolClass) -> None:
    lamp = await project(room.busbar, room.stranger, visibility="unlisted")
    await room.hand_in(await room.assign(), projectId=lamp)
    assert await role_in(room.busbar, lamp, room.teacher) == "none"
    await collaborate(room.busbar, lamp, room.stranger, room.student)
    assert await role_in(room.busbar, lamp, room.teacher) == "viewer"


async def test_what_a_former_student_handed_in_stays_with_the_teacher(room: SchoolClass) -> None:
    assignment = await room.assign()
    submission = await room.hand_in(assignment)
    done(await room.desk.delete(f"/api/classrooms/{room.id}/members/{room.student.id}"))
    [kept] = done(await room.desk.get(f"/api/assignments/{assignment['id']}/submissions"))["submissions"]
    assert (kept["id"], kept["student"]["displayName"]) == (submission["id"], "bea")
    assert (await room.grade(submission, 100))["points"] == 100
    assert await room.certificates() == []
