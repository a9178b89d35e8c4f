"""The newest schema for an empty SQLite file, without going through its history, which takes Alembic and a fifth of the start.

`schema.sql` is what the history makes, written down by `tools/schema.py`; a test compares the two. Where the script is older
than the history, the migrations that it lacks follow.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

SCRIPT = Path(__file__).parent / "schema.sql"
END = ";\n"
"""Ends a statement; none has it within."""


def create(connection: Connection) -> None:
    """Make the schema inside the open transaction, unless the database has one, which another process may have made."""
    if connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one():
        return
    for statement in SCRIPT.read_text().split(END):
        connection.exec_driver_sql(statement)
