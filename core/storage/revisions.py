"""Which revision a database has and which one the program knows, told without Alembic: loading it is a third of the start."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

HISTORY = Path(__file__).parent / "migrations"


def head_revision() -> str:
    """Return the newest revision that this program knows; files are named after revisions, which are numbers that grow."""
    return max(path.name.split("_")[0] for path in (HISTORY / "versions").glob("[0-9]*.py"))


def current_revision(connection: Connection) -> str | None:
    """Return the revision of a database; None when it was never migrated."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
