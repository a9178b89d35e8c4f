"""Tables of home discovery."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlmodel import Field, SQLModel


class HomeBoardRow(SQLModel, table=True):
    """A board that is announced to homes; it goes with its board."""

    __tablename__ = "home_board"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    board_id: str = Field(primary_key=True, max_length=64, sa_column_args=[ForeignKey("board.id", ondelete="CASCADE")])
