"""The table of documents. Times are microseconds since the Unix epoch."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class DocumentRow(SQLModel, table=True):
    """One revision of a document; the one with the highest number is current.

    Attributes:
        subject: Id of what the document belongs to, such as a project.
        kind: Which document of the subject it is.
        revision: Counts the saves of the document, from 1. The key lets one of several savers have a number.
        content: Canonical JSON text.
        digest: SHA-256 of the content, in hex.
        size: Bytes of the content.
        saved_by: User who saved it; None when no user did.
        restored_from: Revision that was brought back by this one.
    """

    __tablename__ = "document"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    subject: str = Field(primary_key=True, max_length=64)
    kind: str = Field(primary_key=True, max_length=32)
    revision: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    org_id: str = Field(max_length=64, index=True)
    content: str
    digest: str = Field(max_length=64)
    size: int
    saved_by: str | None = Field(default=None, max_length=64)
    saved_us: int = Field(sa_type=BigInteger)
    restored_from: int | None = None
