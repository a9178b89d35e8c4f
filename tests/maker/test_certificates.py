"""Certificates: when they are issued, how anybody checks them, and what they look like."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import rfc8785
from sqlalchemy.exc import IntegrityError

from core.kernel.clock import to_timestamp
from core.maker import certificate_picture
from core.maker.classroom_tables import CertificateRow
from gen.busbar.maker.v1.certificates_pb import Certificate
from tests.conftest import Running, Start
from tests.databases import postgres
from tests.doors import Refused
from tests.maker.classes import SchoolClass, done, made, notices, on, school_class

__all__ = ["postgres"]

STATED = (
    "id", "title", "recipientName", "recipientUsername", "issuerName", "classroomId", "classroomName", "points", "maxPoints",
    "issuedAt",
)  # fmt: skip
MEMBERS = {*STATED, "status", "revokedAt", "verifyUrl", "digest"}
PICTURES = {"image.svg": "image/svg+xml", "image.png": "image/png", "document.pdf": "application/pdf"}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
async def room(busbar: Running) -> SchoolClass:
    return await school_class(busbar, "bea", "cem")


async def issue(room: SchoolClass, **fields: Any) -> Any:
    """Issue a certificate to the first student by hand."""
    body = {"userId": room.student.id, **fields}
    return made(await room.desk.post(f"/api/classrooms/{room.id}/certificates", json=body))


async def test_whoever_passes_all_that_is_required_gets_a_certificate(room: SchoolClass) -> None:
    first, second = await room.assign(maxPoints=10), await room.assign(title="Fade", maxPoints=20, passPoints=5)
    await room.assign(title="Extra", required=False)
    await room.assign(title="Later", status="draft")
    await room.grade(await room.hand_in(first), 6)
    assert await room.certificates() == []
    await room.grade(await room.hand_in(second), 5.5)
    [certificate] = await room.certificates()
    assert set(certificate) == MEMBERS
    assert re.fullmatch(r"[0-9a-z]{26}", certificate["id"])
    assert (certificate["title"], certificate["status"]) == ("Certificate of Completion", "valid")
    assert (certificate["recipientName"], certificate["recipientUsername"], certificate["issuerName"]) == (
        "bea",
        "bea",
        "teacher",
    )
    assert (certificate["classroomId"], certificate["classroomName"]) == (room.id, "Electronics")
    assert (certificate["points"], certificate["maxPoints"], certificate["revokedAt"]) == (11.5, 30, None)
    assert await room.certificates(room.students[1]) == []
    told = await notices(room.busbar, room.student)
    assert [(n.kind, n.link) for n in told if n.kind == "certificate.issued"] == [
        ("certificate.issued", f"/certificates/{certificate['id']}")
    ]


@pytest.mark.parametrize(
    ("assignments", "points"),
    [
        ([{"required": False}], [100]),
        ([{}, {}], [100, 59.9]),
        ([{}, {"status": "closed"}], [100]),
        ([{"passPoints": 100}], [99]),
    ],
    ids=["nothing is required", "one is failed", "a closed one was missed", "the pass mark is missed"],
)
async def test_whoever_misses_something_gets_none(room: SchoolClass, assignments: list[Any], points: list[float]) -> None:
    rows = [await room.assign(**fields) for fields in assignments]
    for row, given in zip(rows, points, strict=False):
        await room.grade(await room.hand_in(row), given)
    assert await room.certificates() == []


async def test_the_best_attempt_counts_and_a_lower_grade_takes_nothing_away(room: SchoolClass) -> None:
    first, second = await room.assign(), await room.assign()
    good = await room.hand_in(first)
    await room.grade(good, 90)
    done(await room.desk.post(f"/api/submissions/{good['id']}/return"))
    await room.grade(await room.hand_in(first), 10)
    last = await room.hand_in(second)
    await room.grade(last, 70)
    [issued] = await room.certificates()
    assert issued["points"] == 160
    await room.grade(last, 0)
    await room.grade(last, 95)
    assert await room.certificates() == [issued]


async def test_a_pass_mark_of_nothing_still_asks_for_a_grade(room: SchoolClass) -> None:
    submission = await room.hand_in(await room.assign(passPoints=0))
    assert await room.certificates() == []
    await room.grade(submission, 0)
    assert len(await room.certificates()) == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_grades_at_once_issue_one_certificate(start: Start, kind: str, request: pytest.FixtureRequest) -> None:
    room = await school_class(await on(kind, request, start), "bea")
    submissions = [await room.hand_in(await room.assign(title=f"a{n}")) for n in range(4)]
    # Each of them may be the one that completes the rest, and the first one is graded twice.
    await asyncio.gather(*(room.grade(submission, 80) for submission in [*submissions, submissions[0]]))
    assert [certificate["points"] for certificate in await room.certificates()] == [320]
    told = await notices(room.busbar, room.student)
    assert [notice.kind for notice in told].count("certificate.issued") == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_of_two_issued_by_hand_at_once_one_is(start: Start, kind: str, request: pytest.FixtureRequest) -> None:
    room = await school_class(await on(kind, request, start), "bea")
    path, body = f"/api/classrooms/{room.id}/certificates", {"userId": room.student.id}
    answers = await asyncio.gather(*(room.desk.post(path, json=body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    assert len(await room.certificates()) == 1


async def test_storage_itself_keeps_a_second_valid_one_out(room: SchoolClass) -> None:
    issued = await issue(room)
    database = room.busbar.app.database
    async with database.read() as session:
        row: dict[str, Any] = (await session.get_one(CertificateRow, issued["id"])).model_dump()
    with pytest.raises(IntegrityError):
        async with database.unit_of_work() as session:
            session.add(CertificateRow.model_validate({**row, "id": "another"}))


async def test_a_teacher_issues_one_by_hand_whatever_the_grades(room: SchoolClass) -> None:
    answer = await room.desk.post(
        f"/api/classrooms/{room.id}/certificates", json={"userId": room.student.id, "title": "Best Lamp"}
    )
    issued = made(answer)
    assert answer.headers["location"] == f"/api/certificates/{issued['id']}"
    assert (issued["title"], issued["points"], issued["maxPoints"]) == ("Best Lamp", None, None)
    again = await room.desk.post(f"/api/classrooms/{room.id}/certificates", json={"userId": room.student.id})
    assert again.status_code == 409
    await room.grade(await room.hand_in(await room.assign()), 100)
    assert await room.certificates() == [issued]


async def test_a_revoked_one_stays_revoked_and_a_new_one_is_issued_by_hand(room: SchoolClass) -> None:
    submission = await room.hand_in(await room.assign())
    await room.grade(submission, 90)
    [first] = await room.certificates()
    for _ in range(2):
        assert done(await room.desk.delete(f"/api/certificates/{first['id']}")) == {"ok": True}
    revoked = done(await room.busbar.http().get(f"/api/certificates/{first['id']}"))
    assert (revoked["status"], revoked["revokedAt"] is not None) == ("revoked", True)
    assert {key for key in first if first[key] != revoked[key]} == {"status", "revokedAt"}
    await room.grade(submission, 95)
    assert await room.certificates() == [revoked]
    second = await issue(room)
    assert await room.certificates() == [second, revoked]
    assert (second["status"], second["points"]) == ("valid", 95)


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_only_the_teacher_issues_and_revokes(busbar: Running, room: SchoolClass, door: str) -> None:
    issued = await issue(room)
    for person, for_issue in ((room.student, "PERMISSION_DENIED"), (room.stranger, "NOT_FOUND")):
        client = busbar.client(door, person.session)
        with pytest.raises(Refused) as refused:
            await client.call("CertificateService.IssueCertificate", classroom_id=room.id, user_id=room.students[1].id)
        assert refused.value.code == for_issue
        with pytest.raises(Refused) as refused:
            await client.call("CertificateService.RevokeCertificate", certificate_id=issued["id"])
        assert refused.value.code == "PERMISSION_DENIED"
    client = busbar.client(door, room.teacher.session)
    for nobody in (room.stranger.id, room.teacher.id, "nobody"):
        with pytest.raises(Refused) as refused:
            await client.call("CertificateService.IssueCertificate", classroom_id=room.id, user_id=nobody)
        assert (refused.value.code, refused.value.message) == ("NOT_FOUND", f"student {nobody} not found")
    with pytest.raises(Refused) as refused:
        await client.call("CertificateService.RevokeCertificate", certificate_id="nothing")
    assert refused.value.code == "NOT_FOUND"


@pytest.mark.parametrize("body", [{}, {"userId": ""}, {"userId": 3}, {"userId": "x" * 65}])
async def test_issuing_by_hand_names_a_student(room: SchoolClass, body: dict[str, Any]) -> None:
    answer = await room.desk.post(f"/api/classrooms/{room.id}/certificates", json=body)
    assert (answer.status_code, answer.json()["error"].split(":")[0]) == (400, "userId")


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_anybody_may_check_a_certificate(busbar: Running, room: SchoolClass, door: str) -> None:
    issued = await issue(room)
    client = busbar.client(door)
    shown = await client.call("CertificateService.GetCertificate", certificate_id=issued["id"])
    assert (shown.recipient_name, shown.status, shown.digest) == ("bea", "valid", issued["digest"])
    with pytest.raises(Refused) as refused:
        await client.call("CertificateService.GetCertificate", certificate_id="nothing")
    assert (refused.value.code, refused.value.message) == ("NOT_FOUND", "certificate nothing not found")


async def test_a_certificate_tells_no_address_and_leads_to_itself(start: Start) -> None:
    room = await school_class(await start(public_url="https://makers.example/"), "bea")
    issued = await issue(room)
    answer = await room.busbar.http().get(f"/api/certificates/{issued['id']}")
    assert "@" not in answer.text
    assert answer.json()["verifyUrl"] == f"https://makers.example/api/certificates/{issued['id']}"


async def test_the_address_to_check_it_works_without_any_setting(room: SchoolClass) -> None:
    issued = await issue(room)
    assert done(await room.busbar.http().get(issued["verifyUrl"])) == issued


async def test_anybody_can_compute_the_digest(room: SchoolClass) -> None:
    done(await room.desk.patch(f"/api/classrooms/{room.id}", json={"name": 'Électronique "ß" \\ 回路 \U0001f4a1'}))
    await room.grade(await room.hand_in(await room.assign(maxPoints=7)), 6.25)
    [issued] = await room.certificates()
    done(await room.desk.patch(f"/api/classrooms/{room.id}", json={"name": "Another"}))
    shown = done(await room.busbar.http().get(f"/api/certificates/{issued['id']}"))
    stated = {name: shown[name] for name in STATED}
    assert hashlib.sha256(rfc8785.dumps(stated)).hexdigest() == shown["digest"]
    plain = json.dumps(stated, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(plain.encode()).hexdigest() == shown["digest"]
    assert shown == issued


async def test_pages_of_certificates_hold_each_once_and_show_nobody_elses(room: SchoolClass) -> None:
    ids = []
    for _ in range(5):
        room.busbar.clock.forward(seconds=1)
        ids.append((await issue(room))["id"])
        done(await room.desk.delete(f"/api/certificates/{ids[-1]}"))
    seen, cursor = [], ""
    while cursor is not None:
        page = done(await room.as_(room.student).get("/api/me/certificates", params={"limit": 2, "cursor": cursor}))
        seen += [one["id"] for one in page["certificates"]]
        cursor = page["nextCursor"]
    assert seen == ids[::-1]
    for other in (room.teacher, room.students[1], room.stranger):
        assert await room.certificates(other) == []
    assert (await room.as_(room.student).get("/api/me/certificates?cursor=nope")).status_code == 400


@pytest.mark.parametrize("picture", PICTURES)
async def test_anybody_may_see_a_certificate_drawn(busbar: Running, room: SchoolClass, picture: str) -> None:
    issued = await issue(room)
    answer = await busbar.http().get(f"/api/certificates/{issued['id']}/{picture}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == PICTURES[picture]
    assert answer.headers["content-disposition"].startswith(f'inline; filename="certificate-{issued["id"]}.')
    over_grpc = await busbar.client("grpc").call(
        "CertificateService.DrawCertificate", certificate_id=issued["id"], picture=picture
    )
    assert over_grpc.content_type == PICTURES[picture]


async def test_what_cannot_be_drawn_is_refused(busbar: Running, room: SchoolClass) -> None:
    issued = await issue(room)
    assert (await busbar.http().get(f"/api/certificates/{issued['id']}/image.gif")).status_code == 400
    assert (await busbar.http().get("/api/certificates/nothing/image.svg")).status_code == 404


def sample(**fields: Any) -> Certificate:
    """Return a certificate to draw."""
    certificate = Certificate(
        id="x",
        title="Certificate of Completion",
        recipient_name="Ada Lovelace",
        issuer_name="Grace Hopper",
        classroom_name="Electronics",
        points=87.5,
        max_points=100,
        issued_at=to_timestamp(1_795_000_000_000_000),
        status="valid",
        verify_url="https://makers.example/api/certificates/x",
        digest="ab" * 32,
    )
    for name, value in fields.items():
        setattr(certificate, name, value)
    return certificate


def drawn(certificate: Certificate, kind: certificate_picture.Kind) -> bytes:
    """Draw a certificate with the fonts at hand."""
    return certificate_picture.draw(certificate, kind, Path("/nowhere"))


NAMES = [
    "<script>alert(1)</script>",
    "#panic() $x$ *b* `c` \\ \" ' & ]]>",
    "محمد 山田 Владимир Ζωή",
    "\U0001f469‍\U0001f52c",
    "W" * 80,
    "",
]


@pytest.mark.parametrize("name", NAMES, ids=["markup", "typesetting", "scripts", "emoji", "long", "empty"])
def test_any_name_can_be_drawn_and_is_never_markup(name: str) -> None:
    certificate = sample(recipient_name=name, issuer_name=name, title=name, classroom_name=name)
    root = ET.fromstring(drawn(certificate, "svg"))  # noqa: S314 - our own picture
    assert root.tag == f"{SVG}svg"
    assert [round(float((root.get(side) or "").removesuffix("pt"))) for side in ("width", "height")] == [842, 595]
    assert root.find(f".//{SVG}script") is None
    assert drawn(certificate, "pdf").startswith(b"%PDF-1.")
    assert drawn(certificate, "png").startswith(b"\x89PNG\r\n\x1a\n")


def test_a_name_in_any_script_has_letters_where_the_fonts_are_installed() -> None:
    box = _glyphs(sample(recipient_name="\U0010fffd"))
    for name in ("山", "한", "م", "प", "ส", "Я", "Ω"):
        assert _glyphs(sample(recipient_name=name)) != box, name


def _glyphs(certificate: Certificate) -> set[str]:
    """Return the outlines of the letters in a picture."""
    root = ET.fromstring(drawn(certificate, "svg"))  # noqa: S314 - our own picture
    return {path.get("d", "") for path in root.iter(f"{SVG}path")}


def test_a_picture_has_the_size_of_a_sheet() -> None:
    data = drawn(sample(), "png")
    assert struct.unpack(">II", data[16:24]) == (1684, 1191)


def test_a_document_says_in_text_what_is_certified() -> None:
    data = drawn(sample(title="Lamp Course"), "pdf")
    assert data.rstrip().endswith(b"%%EOF")
    assert b"Lamp Course" in data
    inside = b"".join(_inflated(part) for part in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL))
    # Letters are mapped back to characters, so that text can be searched and copied.
    assert b"/ToUnicode" in data + inside
    assert b"beginbfchar" in data + inside


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return b""


def test_a_revoked_certificate_looks_revoked() -> None:
    revoked, valid = drawn(sample(status="revoked"), "svg"), drawn(sample(), "svg")
    assert b"#b3261e" in revoked
    assert b"#b3261e" not in valid
