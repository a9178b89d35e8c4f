"""A database with the outbox in it, on either engine, and a clock that stands still until it is moved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlmodel import SQLModel

from core.kernel.clock import Clock
from core.kernel.settings import Storage
from core.outbox.outbox import Outbox
from core.outbox.tables import OutboxRow
from core.storage.database import Database
from tests.databases import Postgres, postgres

__all__ = ["postgres"]


class StillClock(Clock):
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.at_us = 1_700_000_000_000_000

    def now_us(self) -> int:
        return self.at_us

    def forward(self, seconds: float) -> None:
        self.at_us += int(seconds * 1_000_000)


async def open_database(url: str) -> Database:
    """Open a database whose only table is the outbox, empty."""
    database = Database(url, Storage())
    await database.start()
    table = SQLModel.metadata.tables[str(OutboxRow.__tablename__)]
    async with database.engine.begin() as connection:
        await connection.run_sync(lambda sync: SQLModel.metadata.drop_all(sync, [table]))
        await connection.run_sync(lambda sync: SQLModel.metadata.create_all(sync, [table]))
    return database


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """A PostgreSQL server for the whole session."""
    return postgres.url("postgres")


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An open database of each kind."""
    url = f"sqlite:///{tmp_path / 'busbar.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    opened = await open_database(url)
    yield opened
    await opened.stop()


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def outbox(clock: StillClock) -> Outbox:
    return Outbox(clock)
