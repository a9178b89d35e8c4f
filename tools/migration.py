"""Write the next migration from what the tables say and the history does not.

    python tools/migration.py "add webhooks"
    python tools/migration.py --initial              # writes the first revision anew; only before the first release

The tables are compared with a SQLite database that has been through the whole history; review what comes out.
The history is one for both databases; what only PostgreSQL has, such as partitions, is written by hand.
"""

from __future__ import annotations

import importlib
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.operations.ops import MigrationScript
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Double, create_engine, event
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from core.storage import migrate  # noqa: E402 - the root must be on the path first

VERSIONS = ROOT / "core" / "storage" / "migrations" / "versions"

DEFAULT_PARTITION = """
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE point_default PARTITION OF point DEFAULT")
"""

TEMPLATE = '''"""{title}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {down!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    {upgrade}


def downgrade() -> None:
    """Take the change back."""
    {downgrade}
'''


def load_tables() -> None:
    """Import every module of tables, so that the metadata is complete."""
    for path in sorted((ROOT / "core").rglob("*tables.py")):
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def render_item(kind: str, item: Any, context: Any) -> str | Literal[False]:  # noqa: ANN401 - alembic's own types are private
    """Write SQLModel's string type as the plain one, and the generic one so that its type is known."""
    del context
    if kind == "type" and isinstance(item, Double):
        return "sa.Double[float]()"
    if kind == "type" and isinstance(item, AutoString):
        return f"sa.String(length={item.length})" if item.length else "sa.String()"
    return False


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def difference() -> MigrationScript:
    """Return the step from the end of the history to the tables."""
    engine = create_engine("sqlite://", connect_args={"isolation_level": None})
    event.listen(engine, "begin", _begin)
    with engine.begin() as connection:
        if any(VERSIONS.glob("0*.py")):
            migrate.upgrade(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        return produce_migrations(context, SQLModel.metadata)


def main(title: str) -> None:
    """Write one revision."""
    load_tables()
    present = sorted(path.stem.split("_")[0] for path in VERSIONS.glob("0*.py"))
    revision = f"{int(present[-1]) + 1 if present else 1:04}"
    script = difference()
    parts = {
        name: re.sub(r" *# ### .*\n?", "", render_python_code(operations, render_item=render_item)).strip()
        for name, operations in (("upgrade", script.upgrade_ops), ("downgrade", script.downgrade_ops))
        if operations is not None
    }
    if not present:
        parts["upgrade"] += DEFAULT_PARTITION
    path = VERSIONS / f"{revision}_{re.sub(r'[^a-z0-9]+', '_', title.lower()).strip('_')}.py"
    down = present[-1] if present else None
    path.write_text(TEMPLATE.format(title=title[0].upper() + title[1:], revision=revision, down=down, **parts))
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(path)], check=False)  # noqa: S603 - our own arguments
    sys.stdout.write(f"{path.relative_to(ROOT)}, with SQLite {sqlite3.sqlite_version}\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--initial"]:
        (VERSIONS / "0001_initial.py").unlink(missing_ok=True)
        main("initial")
    else:
        main(" ".join(sys.argv[1:]) or "change")
