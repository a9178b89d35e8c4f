"""Migrations without a command line or a configuration file: the history lies in the package and is run from the program."""

from __future__ import annotations

from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from core.storage.revisions import HISTORY

_LOCK = 7_262_827_227
"""Number of the advisory lock that keeps two processes from migrating at once on PostgreSQL."""


def upgrade(connection: Connection, to: str = "head") -> None:
    """Bring a database to a revision, by default the newest, inside the open transaction.

    The lock is taken before the revision is read, so that the second of two processes finds nothing to do. On SQLite the
    transaction itself holds the lock.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    script = ScriptDirectory(HISTORY)

    def steps(revision: Any, _context: MigrationContext) -> Any:  # noqa: ANN401 - alembic's own types are private
        return script._upgrade_revs(to, revision)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as its own command

    environment = EnvironmentContext(Config(), script, fn=steps)
    with environment:
        environment.configure(connection=connection, transactional_ddl=True)
        with environment.begin_transaction():
            environment.run_migrations()
