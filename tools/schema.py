"""Write down the schema that the history of migrations makes on SQLite, for files that are empty.

    python tools/schema.py

Run it, or `make gen`, after a change to the history.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sqlalchemy import Connection, create_engine, event

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from core.storage import migrate  # noqa: E402 - the root must be on the path first
from core.storage.schema import END, SCRIPT  # noqa: E402

STATEMENTS = """
SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type = 'index', name
"""
CONSTRAINTS = ("CHECK", "CONSTRAINT", "FOREIGN KEY", "PRIMARY KEY", "UNIQUE")


def script(connection: Connection) -> str:
    """Return what makes the schema of a database anew, stamped with its revision: tables first, each kind by name."""
    statements = [_ordered(sql) for sql in connection.exec_driver_sql(STATEMENTS).scalars()]
    revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    statements.append(f"INSERT INTO alembic_version (version_num) VALUES ('{revision}')")  # noqa: S608 - our own number
    return "".join(statement + END for statement in statements)


def _ordered(statement: str) -> str:
    """Return a statement with its constraints in order: those of a table that a migration copies come in any."""
    head, opened, rest = statement.partition("(\n")
    body, _, tail = rest.rpartition("\n)")
    if not opened:
        return statement
    members = [line.strip().removesuffix(",") for line in body.splitlines()]
    members.sort(key=lambda member: member if member.startswith(CONSTRAINTS) else "")
    return f"{head}(\n    " + ",\n    ".join(filter(None, members)) + f"\n){tail.rstrip()}"


def history(to: str = "head") -> str:
    """Return the script of what the history makes."""
    engine = create_engine("sqlite://", connect_args={"isolation_level": None})
    event.listen(engine, "begin", _begin)
    with engine.begin() as connection:
        migrate.upgrade(connection, to)
        return script(connection)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


if __name__ == "__main__":
    SCRIPT.write_text(history())
    sys.stdout.write(f"{SCRIPT.relative_to(ROOT)}\n")
