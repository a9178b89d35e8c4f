"""Certificates, for whoever holds one and whoever checks one."""

from __future__ import annotations

import asyncio
import hashlib

from sqlalchemy import tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call
from core.kernel.clock import Clock, to_datetime, to_timestamp
from core.kernel.errors import FailedPrecondition, NotFound, PermissionDenied
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.kernel.settings import Settings
from core.maker import certificate_picture
from core.maker.certificate_issue import DEFAULT_TITLE, CertificateIssue
from core.maker.class_access import STUDENT, TEACHER, lock_classroom, member_of, place_in
from core.maker.classroom_tables import CertificateRow, ClassroomRow
from core.storage.database import Database
from gen.busbar.maker.v1.certificates_pb import (
    Certificate,
    DrawCertificateRequest,
    GetCertificateRequest,
    IssueCertificateRequest,
    ListMyCertificatesRequest,
    ListMyCertificatesResponse,
    RevokeCertificateRequest,
    RevokeCertificateResponse,
)
from gen.google.api.httpbody_pb import HttpBody

AT_ONCE = 2
"""Pictures drawn at once; drawing keeps a core busy, and nobody who waits for one is in a hurry."""


class CertificateService:
    """Issues, shows and revokes certificates."""

    def __init__(self, database: Database, issue: CertificateIssue, clock: Clock, settings: Settings) -> None:
        self._database = database
        self._issue = issue
        self._clock = clock
        self._settings = settings
        self._drawing = asyncio.Semaphore(AT_ONCE)

    async def get_certificate(self, request: GetCertificateRequest, call: Call) -> Certificate:
        """Read one certificate, whoever asks."""
        async with self._database.read() as session:
            return self._message(await _get(session, request.certificate_id), call)

    async def draw_certificate(self, request: DrawCertificateRequest, call: Call) -> HttpBody:
        """Draw one certificate, whoever asks."""
        async with self._database.read() as session:
            shown = self._message(await _get(session, request.certificate_id), call)
        form = certificate_picture.FORMS[request.picture]
        async with self._drawing:
            data = await asyncio.to_thread(certificate_picture.draw, shown, form.kind, self._settings.data / "fonts")
        call.headers.append(("Content-Disposition", f'inline; filename="certificate-{shown.id}.{form.kind}"'))
        return HttpBody(content_type=form.content_type, data=data)

    async def issue_certificate(self, request: IssueCertificateRequest, call: Call) -> Certificate:
        """Issue a certificate to a student who has no valid one."""
        async with self._database.unit_of_work() as session:
            await lock_classroom(session, request.classroom_id)
            place = await place_in(session, request.classroom_id, call.caller)
            place.require_teacher()
            member = await member_of(session, place.classroom.id, request.user_id)
            if member is None or member.role != STUDENT:
                raise NotFound(f"student {request.user_id} not found", user=request.user_id)
            valid = select(CertificateRow.id).where(
                col(CertificateRow.classroom_id) == place.classroom.id,
                col(CertificateRow.recipient_id) == request.user_id,
                col(CertificateRow.revoked_us).is_(None),
            )
            if (await session.exec(valid)).first() is not None:
                raise FailedPrecondition("the student has a valid certificate of this classroom")
            title = request.title.strip() or DEFAULT_TITLE
            row = await self._issue.issue(session, place.classroom, request.user_id, title)
        call.headers.append(("Location", f"/api/certificates/{row.id}"))
        return self._message(row, call)

    async def revoke_certificate(self, request: RevokeCertificateRequest, call: Call) -> RevokeCertificateResponse:
        """Revoke a certificate; the first time counts."""
        async with self._database.unit_of_work() as session:
            row = await _get(session, request.certificate_id)
            classroom = await session.get_one(ClassroomRow, row.classroom_id)
            if classroom.teacher_id != call.caller.user_id:
                raise PermissionDenied("only the teacher of the classroom may revoke a certificate", role=TEACHER)
            if row.revoked_us is None:
                row.revoked_us = self._clock.now_us()
        return RevokeCertificateResponse(ok=True)

    async def list_my_certificates(self, request: ListMyCertificatesRequest, call: Call) -> ListMyCertificatesResponse:
        """List the caller's certificates, newest first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        query = select(CertificateRow).where(col(CertificateRow.recipient_id) == call.caller.user_id)
        after = decode_cursor(request.cursor, int, str)
        if after is not None:
            query = query.where(tuple_(col(CertificateRow.issued_us), col(CertificateRow.id)) < after)
        query = query.order_by(col(CertificateRow.issued_us).desc(), col(CertificateRow.id).desc()).limit(limit + 1)
        async with self._database.read() as session:
            rows = list((await session.exec(query)).all())
        cursor = encode_cursor(rows[limit - 1].issued_us, rows[limit - 1].id) if len(rows) > limit else None
        return ListMyCertificatesResponse(certificates=[self._message(row, call) for row in rows[:limit]], next_cursor=cursor)

    def _message(self, row: CertificateRow, call: Call) -> Certificate:
        return Certificate(
            id=row.id,
            title=row.title,
            recipient_name=row.recipient_name,
            recipient_username=row.recipient_username,
            issuer_name=row.issuer_name,
            classroom_id=row.classroom_id,
            classroom_name=row.classroom_name,
            points=row.points,
            max_points=row.max_points,
            issued_at=to_timestamp(row.issued_us),
            status="valid" if row.revoked_us is None else "revoked",
            revoked_at=to_timestamp(row.revoked_us),
            verify_url=f"{self._base(call)}/api/certificates/{row.id}",
            digest=digest(row),
        )

    def _base(self, call: Call) -> str:
        """Return the address for people elsewhere: the public one where it is known, else the one that the caller used."""
        return self._settings.public_url.rstrip("/") or call.base_url or f"http://{self._settings.http}"


def digest(row: CertificateRow) -> str:
    """Return the SHA-256 of what a certificate states, as RFC 8785 writes it."""
    import rfc8785  # noqa: PLC0415 - few servers issue certificates

    stated: dict[str, str | float | None] = {
        "id": row.id,
        "title": row.title,
        "recipientName": row.recipient_name,
        "recipientUsername": row.recipient_username,
        "issuerName": row.issuer_name,
        "classroomId": row.classroom_id,
        "classroomName": row.classroom_name,
        "points": row.points,
        "maxPoints": row.max_points,
        "issuedAt": to_datetime(row.issued_us).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    return hashlib.sha256(rfc8785.dumps(stated)).hexdigest()


async def _get(session: AsyncSession, certificate_id: str) -> CertificateRow:
    row = await session.get(CertificateRow, certificate_id)
    if row is None:
        raise NotFound(f"certificate {certificate_id} not found", certificate=certificate_id)
    return row
