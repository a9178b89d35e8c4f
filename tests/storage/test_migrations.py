"""The history of the schema: complete, the same for both databases, and safe to run from several processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlmodel import SQLModel

from core.kernel.settings import Storage
from core.storage import schema
from core.storage.database import Database
from core.storage.migrate import upgrade
from tools.migration import load_tables
from tools.schema import history, script

START = """
import asyncio, sys
from core.kernel.settings import Storage
from core.storage.database import Database

async def main() -> None:
    database = Database(sys.argv[1], Storage())
    await database.start()
    await database.migrate()
    await database.stop()

asyncio.run(main())
"""


def differences(connection: Connection) -> list[Any]:
    """Return where the tables of the code and the schema differ; partitions are made as points come."""

    def ours(_object: object, name: str | None, kind: str, _reflected: object, _other: object) -> bool:
        return not (kind == "table" and name is not None and name.startswith("point_"))

    context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
    return compare_metadata(context, SQLModel.metadata)


async def test_the_migrated_schema_is_what_the_tables_say(empty_url: str) -> None:
    load_tables()
    database = Database(empty_url, Storage())
    await database.start()
    assert await database.current_revision() is None
    await database.migrate()
    assert await database.current_revision() == database.head_revision()
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await database.stop()


def test_the_schema_of_empty_files_is_written_down_as_the_history_makes_it() -> None:
    assert schema.SCRIPT.read_text() == history(), "run `make gen`"


@pytest.mark.parametrize("written_at", ["0018", "head"])
async def test_an_empty_file_gets_the_schema_that_the_history_makes_whatever_was_written_down(
    written_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "SCRIPT", tmp_path / "schema.sql")
    schema.SCRIPT.write_text(history(written_at))
    database = Database(f"sqlite:///{tmp_path / 'busbar.db'}", Storage())
    await database.start()
    await database.migrate()
    async with database.engine.connect() as connection:
        assert await connection.run_sync(script) == history()
    await database.stop()


async def test_migrating_again_changes_nothing(database: Database) -> None:
    await database.migrate()
    assert await database.current_revision() == database.head_revision()


@pytest.mark.timeout(60)
async def test_processes_that_start_at_once_migrate_once(empty_url: str) -> None:
    root = Path(__file__).parent.parent.parent

    async def start() -> int | None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", START, empty_url, cwd=root, stderr=subprocess.DEVNULL
        )
        return await asyncio.wait_for(process.wait(), 40)

    assert await asyncio.gather(*[start() for _ in range(2)]) == [0, 0]


BEFORE_PLANS = """
INSERT INTO org (id, name, created_us) VALUES ('o', 'Org', 1);
INSERT INTO user_account (id, email, username, display_name, bio, role, email_verified, password_hash, created_us)
    VALUES ('u', 'u@example.com', 'u', 'U', '', 'user', false, '', 1),
    ('v', 'v@example.com', 'v', 'V', '', 'user', false, '', 2);
INSERT INTO membership (id, org_id, user_id, role, created_us) VALUES ('n', 'o', 'v', 'admin', 2), ('m', 'o', 'u', 'admin', 1);
INSERT INTO credential (id, kind, hash, prefix, name, org_id, user_id, scopes, created_us)
    VALUES ('c', 3, 'h', 'plx_', 'key', 'o', 'u', '*', 1);
INSERT INTO point_quota (credential_id, points_per_month, month, points) VALUES ('c', 1000, 5, 7);
"""


async def test_keys_their_quotas_and_who_owns_what_outlive_the_coming_of_plans(empty_url: str) -> None:
    database = Database(empty_url, Storage())
    await database.start()
    async with database.engine.begin() as connection:
        await connection.run_sync(upgrade, "0018")
        for statement in filter(str.strip, BEFORE_PLANS.split(";")):
            await connection.exec_driver_sql(statement)
    await database.migrate()
    async with database.engine.begin() as connection:
        quota = await connection.exec_driver_sql(
            "SELECT hash, org_id, points FROM credential JOIN point_quota ON credential_id = credential.id"
        )
        assert [tuple(row) for row in quota] == [("h", "o", 7)]
        owners = await connection.exec_driver_sql("SELECT user_id FROM membership WHERE owner")
        assert [tuple(row) for row in owners] == [("u",)]
        await connection.exec_driver_sql("UPDATE credential SET org_id = NULL")
    await database.stop()
