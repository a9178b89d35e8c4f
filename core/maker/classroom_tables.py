"""Tables of classrooms. Times are microseconds since the Unix epoch."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

VALID = "revoked_us IS NULL"


class ClassroomRow(SQLModel, table=True):
    """A classroom. It may have students of any organisation, who come in by its code."""

    __tablename__ = "classroom"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64, index=True)
    teacher_id: str = Field(foreign_key="user_account.id", max_length=64)
    name: str = Field(max_length=120)
    description: str = Field(default="", max_length=5000)
    join_code: str = Field(unique=True, max_length=8)
    archived: bool = False
    created_us: int = Field(sa_type=BigInteger)
    updated_us: int = Field(sa_type=BigInteger)


class ClassroomMemberRow(SQLModel, table=True):
    """Somebody's place in a classroom; its teacher has one too."""

    __tablename__ = "classroom_member"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (UniqueConstraint("classroom_id", "user_id"),)

    id: str = Field(primary_key=True, max_length=64)
    classroom_id: str = Field(foreign_key="classroom.id", max_length=64)
    user_id: str = Field(foreign_key="user_account.id", max_length=64, index=True)
    role: str = Field(max_length=16)
    joined_us: int = Field(sa_type=BigInteger)


class AssignmentRow(SQLModel, table=True):
    """An assignment.

    Attributes:
        project_template_id: A project that may be gone since.
        pass_points: Pass mark that was chosen; None where it follows the most points.
    """

    __tablename__ = "assignment"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: str = Field(primary_key=True, max_length=64)
    classroom_id: str = Field(foreign_key="classroom.id", max_length=64, index=True)
    title: str = Field(max_length=160)
    instructions: str = Field(default="", max_length=20_000)
    project_template_id: str | None = Field(default=None, max_length=64, index=True)
    max_points: int
    pass_points: int | None = None
    required: bool = True
    due_us: int | None = Field(default=None, sa_type=BigInteger)
    status: str = Field(max_length=16)
    created_us: int = Field(sa_type=BigInteger)
    updated_us: int = Field(sa_type=BigInteger)


class SubmissionRow(SQLModel, table=True):
    """What a student handed in. Of one student's attempts only the latest may still wait for a grade.

    Attributes:
        project_id: A project that may be gone since.
    """

    __tablename__ = "submission"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (UniqueConstraint("assignment_id", "student_id", "attempt"),)

    id: str = Field(primary_key=True, max_length=64)
    assignment_id: str = Field(foreign_key="assignment.id", max_length=64)
    student_id: str = Field(foreign_key="user_account.id", max_length=64, index=True)
    project_id: str | None = Field(default=None, max_length=64, index=True)
    content: str = Field(default="", max_length=50_000)
    url: str | None = Field(default=None, max_length=2048)
    attempt: int
    late: bool
    status: str = Field(max_length=16)
    points: float | None = None
    feedback: str | None = Field(default=None, max_length=20_000)
    graded_us: int | None = Field(default=None, sa_type=BigInteger)
    submitted_us: int = Field(sa_type=BigInteger)


class CertificateRow(SQLModel, table=True):
    """A certificate. What was certified never changes, so names are copies; only `revoked_us` is ever written again.

    The unique index lets a student have one valid certificate of a classroom, and any number of revoked ones.
    """

    __tablename__ = "certificate"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (
        Index(
            "certificate_valid",
            "classroom_id",
            "recipient_id",
            unique=True,
            sqlite_where=text(VALID),
            postgresql_where=text(VALID),
        ),
    )

    id: str = Field(primary_key=True, max_length=64)
    classroom_id: str = Field(foreign_key="classroom.id", max_length=64)
    recipient_id: str = Field(foreign_key="user_account.id", max_length=64, index=True)
    title: str = Field(max_length=160)
    recipient_name: str = Field(max_length=80)
    recipient_username: str = Field(max_length=32)
    issuer_name: str = Field(max_length=80)
    classroom_name: str = Field(max_length=120)
    points: float | None = None
    max_points: float | None = None
    issued_us: int = Field(sa_type=BigInteger)
    revoked_us: int | None = Field(default=None, sa_type=BigInteger)
