"""Classrooms assignments submissions certificates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "classroom",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("teacher_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("description", sa.String(length=5000), nullable=False),
        sa.Column("join_code", sa.String(length=8), nullable=False),
        sa.Column("archived", sa.Boolean(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["org.id"],
        ),
        sa.ForeignKeyConstraint(
            ["teacher_id"],
            ["user_account.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("join_code"),
    )
    op.create_index(op.f("ix_classroom_org_id"), "classroom", ["org_id"], unique=False)
    op.create_table(
        "assignment",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("classroom_id", sa.String(length=64), nullable=False),
        sa.Column("title", sa.String(length=160), nullable=False),
        sa.Column("instructions", sa.String(length=20000), nullable=False),
        sa.Column("project_template_id", sa.String(length=64), nullable=True),
        sa.Column("max_points", sa.Integer(), nullable=False),
        sa.Column("pass_points", sa.Integer(), nullable=True),
        sa.Column("required", sa.Boolean(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["classroom_id"],
            ["classroom.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_assignment_classroom_id"), "assignment", ["classroom_id"], unique=False)
    op.create_index(op.f("ix_assignment_project_template_id"), "assignment", ["project_template_id"], unique=False)
    op.create_table(
        "certificate",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("classroom_id", sa.String(length=64), nullable=False),
        sa.Column("recipient_id", sa.String(length=64), nullable=False),
        sa.Column("title", sa.String(length=160), nullable=False),
        sa.Column("recipient_name", sa.String(length=80), nullable=False),
        sa.Column("recipient_username", sa.String(length=32), nullable=False),
        sa.Column("issuer_name", sa.String(length=80), nullable=False),
        sa.Column("classroom_name", sa.String(length=120), nullable=False),
        sa.Column("points", sa.Float(), nullable=True),
        sa.Column("max_points", sa.Float(), nullable=True),
        sa.Column("issued_us", sa.BigInteger(), nullable=False),
        sa.Column("revoked_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["classroom_id"],
            ["classroom.id"],
        ),
        sa.ForeignKeyConstraint(
            ["recipient_id"],
            ["user_account.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "certificate_valid",
        "certificate",
        ["classroom_id", "recipient_id"],
        unique=True,
        sqlite_where=sa.text("revoked_us IS NULL"),
        postgresql_where=sa.text("revoked_us IS NULL"),
    )
    op.create_index(op.f("ix_certificate_recipient_id"), "certificate", ["recipient_id"], unique=False)
    op.create_table(
        "classroom_member",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("classroom_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("joined_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["classroom_id"],
            ["classroom.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("classroom_id", "user_id"),
    )
    op.create_index(op.f("ix_classroom_member_user_id"), "classroom_member", ["user_id"], unique=False)
    op.create_table(
        "submission",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("assignment_id", sa.String(length=64), nullable=False),
        sa.Column("student_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("content", sa.String(length=50000), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("points", sa.Float(), nullable=True),
        sa.Column("feedback", sa.String(length=20000), nullable=True),
        sa.Column("graded_us", sa.BigInteger(), nullable=True),
        sa.Column("submitted_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["assignment_id"],
            ["assignment.id"],
        ),
        sa.ForeignKeyConstraint(
            ["student_id"],
            ["user_account.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("assignment_id", "student_id", "attempt"),
    )
    op.create_index(op.f("ix_submission_project_id"), "submission", ["project_id"], unique=False)
    op.create_index(op.f("ix_submission_student_id"), "submission", ["student_id"], unique=False)


def downgrade() -> None:
    """Take the change back."""
    op.drop_index(op.f("ix_submission_student_id"), table_name="submission")
    op.drop_index(op.f("ix_submission_project_id"), table_name="submission")
    op.drop_table("submission")
    op.drop_index(op.f("ix_classroom_member_user_id"), table_name="classroom_member")
    op.drop_table("classroom_member")
    op.drop_index(op.f("ix_certificate_recipient_id"), table_name="certificate")
    op.drop_index(
        "certificate_valid",
        table_name="certificate",
        sqlite_where=sa.text("revoked_us IS NULL"),
        postgresql_where=sa.text("revoked_us IS NULL"),
    )
    op.drop_table("certificate")
    op.drop_index(op.f("ix_assignment_project_template_id"), table_name="assignment")
    op.drop_index(op.f("ix_assignment_classroom_id"), table_name="assignment")
    op.drop_table("assignment")
    op.drop_index(op.f("ix_classroom_org_id"), table_name="classroom")
    op.drop_table("classroom")
