"""Storage that is full or locked: every door says so, nothing acknowledged is lost, and it passes without a restart."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from core.app import App
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Start
from tests.databases import postgres_server
from tests.doors import Refused
from tests.faults.conftest import WAIT_SECONDS
from tests.faults.process import Account, ServerProcess, prepare, serving

SENTENCE = "storage is unavailable, try again later"
EPOCH_MS = 1_700_000_000_000
MOST_PAGES = 1 << 30
BODY = "x" * 8_000
"""Content of a point: a few hundred of them fill any file that is not allowed to grow."""


@dataclass
class Sender:
    """A client that fills the database, and knows what was acknowledged."""

    http: httpx.AsyncClient
    acknowledged: list[int] = field(default_factory=list[int])
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def send(self) -> httpx.Response:
        """Send a point of its own."""
        number = next(self.numbers)
        point = {"metric": "m", "value": f"{number} {BODY}", "timestamp": EPOCH_MS + number}
        answer = await self.http.post("/ingest", json={"source_id": "rig-1", "points": [point]})
        if answer.status_code == 200:
            self.acknowledged.append(number)
        return answer

    async def until_refused(self) -> httpx.Response:
        """Send until the server takes no more."""
        for _ in range(1000):
            answer = await self.send()
            if answer.status_code != 200:
                return answer
        raise AssertionError("the database never became full")

    async def stored(self) -> list[int]:
        """Return the numbers of the points that are stored, in order."""
        answer = await self.http.get("/api/v1/telemetry", params={"from": "2023-01-01", "to": "2024-01-01", "limit": "1000"})
        assert answer.status_code == 200, answer.text
        return [int(point["value"].partition(" ")[0]) for point in answer.json()["data"]]


def is_unavailable(answer: httpx.Response, body: dict[str, str]) -> None:
    assert (answer.status_code, answer.json()) == (503, body)
    assert int(answer.headers["retry-after"]) >= 1


@dataclass
class OwnPostgres:
    """A PostgreSQL server that a test may stop."""

    server: Any

    @property
    def url(self) -> str:
        """Address of its database."""
        return self.server.get_uri()

    def stop(self) -> None:
        """Stop it at once, as a crash would: connections are cut and nothing is written out."""
        process = self.server.get_postmaster_info().process
        process.send_signal(signal.SIGQUIT)
        process.wait(WAIT_SECONDS)

    def start(self) -> None:
        """Start it again on the same files; it recovers from its log."""
        self.server.ensure_postgres_running()


@pytest.fixture
def own_postgres() -> Generator[OwnPostgres]:
    """A PostgreSQL server for one test."""
    folder = Path(tempfile.mkdtemp(prefix="busbar-postgres-"))
    with postgres_server(folder) as server:
        yield OwnPostgres(server)


TELEMETRY = {"error": SENTENCE, "message": SENTENCE}
MAKER = {"error": SENTENCE}


@contextmanager
def locked(database: Path) -> Generator[None]:
    """Hold the database as another program would."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=20)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


async def test_a_database_that_another_program_holds_is_503_on_every_door_and_recovers(start: Start, tmp_path: Path) -> None:
    busbar = await start(storage={"busy_timeout_s": 0.1})
    alice = await busbar.person("alice")
    board = await busbar.board(alice)
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read")
    sender = Sender(busbar.http(**{"x-api-key": key}))
    session = busbar.http(alice.session, **{"x-test": "session"})
    assert (await sender.send()).status_code == 200

    pin = f"/api/boards/{board.id}/pins/1"
    with locked(tmp_path / "data" / "busbar.db"):
        is_unavailable(await sender.send(), TELEMETRY)
        is_unavailable(await session.put(pin, json={"value": 1}), MAKER)
        is_unavailable(await session.post("/api/boards", json={"name": "Second"}), MAKER)
        for door in ("grpc", "mcp"):
            with pytest.raises(Refused) as caught:
                await busbar.client(door, alice.session).call("PinService.WritePin", board_id=board.id, pin_index=1, value=1)
            assert SENTENCE in caught.value.message
        assert (await session.get(pin)).json()["value"] is None
        assert await sender.stored() == [0]

    assert (await sender.send()).status_code == 200
    assert (await session.put(pin, json={"value": 2})).json()["seq"] == 1
    assert (await session.post("/api/boards", json={"name": "Second"})).status_code == 201
    assert await sender.stored() == sender.acknowledged == [0, 2]


async def test_reads_go_on_while_another_program_holds_the_database(start: Start, tmp_path: Path) -> None:
    busbar = await start(storage={"busy_timeout_s": 0.1})
    alice = await busbar.person("alice")
    board = await busbar.board(alice)
    session = busbar.http(alice.session, **{"x-test": "session"})
    with locked(tmp_path / "data" / "busbar.db"):
        answers = await asyncio.gather(*(session.get(path) for path in ("/api/boards", f"/api/boards/{board.id}/pins")))
        assert [answer.status_code for answer in answers] == [200, 200]
        assert (await busbar.http().get("/healthz")).status_code == 200


class Disk:
    """The disk below a running server, as far as SQLite can tell: beyond the limit it answers SQLITE_FULL."""

    def __init__(self, app: App) -> None:
        self._lane: Any = app.database.writer._lane
        self._pages = MOST_PAGES
        event.listen(app.database.engine.sync_engine, "checkout", self._checked_out)

    def fill(self) -> None:
        """Leave no room for another page."""
        self._limit(1)

    def free(self) -> None:
        """Make room again."""
        self._limit(MOST_PAGES)

    def _limit(self, pages: int) -> None:
        self._pages = pages
        self._lane._thread.submit(self._apply, self._lane._connection).result(20)

    def _checked_out(self, connection: Any, _record: object, _proxy: object) -> None:
        cursor = connection.cursor()
        self._apply(cursor)
        cursor.close()

    def _apply(self, connection: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={self._pages}")


async def boards_until_refused(session: httpx.AsyncClient) -> httpx.Response:
    for _ in range(200):
        answer = await session.post("/api/boards", json={"name": "B" * 80})
        if answer.status_code != 201:
            return answer
    raise AssertionError("the database never became full")


async def test_a_full_disk_is_503_and_passes_once_there_is_room(start: Start) -> None:
    busbar = await start(quotas={"boards": 1000})
    alice = await busbar.person("alice")
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read")
    sender = Sender(busbar.http(**{"x-api-key": key}))
    session = busbar.http(alice.session, **{"x-test": "session"})
    await sender.send()
    disk = Disk(busbar.app)

    disk.fill()
    is_unavailable(await sender.until_refused(), TELEMETRY)
    is_unavailable(await boards_until_refused(session), MAKER)
    assert await sender.stored() == sender.acknowledged
    assert (await busbar.http().get("/healthz")).status_code == 200

    disk.free()
    assert (await sender.send()).status_code == 200
    assert (await session.post("/api/boards", json={"name": "Second"})).status_code == 201
    assert await sender.stored() == sender.acknowledged


async def test_a_process_that_may_not_write_any_more_refuses_and_goes_on_when_it_may(tmp_path: Path) -> None:
    data = tmp_path / "data"
    account = await prepare(data)
    async with serving(data) as server, clients(server, account) as (sender, session):
        board = (await session.post("/api/boards", json={"name": "Bench"})).json()
        pin = f"/api/boards/{board['id']}/pins/1"
        await sender.send()

        server.limit_files(1)
        is_unavailable(await sender.until_refused(), TELEMETRY)
        is_unavailable(await session.put(pin, json={"value": 1}), MAKER)
        is_unavailable(await session.post("/api/boards", json={"name": "Second"}), MAKER)
        assert await sender.stored() == sender.acknowledged

        server.limit_files(-1)
        assert (await sender.send()).status_code == 200
        assert (await session.put(pin, json={"value": 2})).json()["seq"] == 1
        assert (await session.post("/api/boards", json={"name": "Second"})).status_code == 201
        assert b"Traceback" not in server.log
        await server.kill()
    async with serving(data) as server, clients(server, account) as (after, session):
        assert await after.stored() == sender.acknowledged
        assert (await session.get(pin)).json()["value"] == 2


@asynccontextmanager
async def clients(server: ServerProcess, account: Account) -> AsyncGenerator[tuple[Sender, httpx.AsyncClient]]:
    """Return a device and a signed-in user of a server process."""
    device = httpx.AsyncClient(base_url=server.http, headers={"x-api-key": account.telemetry_key}, timeout=30)
    user = httpx.AsyncClient(base_url=server.http, headers={"authorization": f"Bearer {account.session}"}, timeout=30)
    async with device, user:
        yield Sender(device), user


async def test_a_postgresql_that_goes_away_is_503_on_every_door_and_nothing_acknowledged_is_lost(
    start: Start, own_postgres: OwnPostgres
) -> None:
    busbar = await start(database=own_postgres.url)
    alice = await busbar.person("alice")
    board = await busbar.board(alice)
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read", "write")
    sender = Sender(busbar.http(**{"x-api-key": key}))
    assert (await sender.send()).status_code == 200
    agent = busbar.client("mcp", await busbar.key(alice, CredentialKind.AGENT_KEY))
    await agent.method("tools/list")
    await asyncio.to_thread(own_postgres.stop)

    is_unavailable(await sender.send(), TELEMETRY)
    is_unavailable(await busbar.http(alice.session).post("/api/boards", json={"name": "Second"}), MAKER)
    write = {"board_id": board.id, "pin_index": 1, "value": 1}
    for door in ("grpc", "rest"):
        with pytest.raises(Refused) as refused:
            await busbar.client(door, alice.session).call("PinService.WritePin", **write)
        assert (refused.value.code, refused.value.message) == ("UNAVAILABLE", SENTENCE)
    with pytest.raises(Refused, match=SENTENCE):
        await agent.call("PinService.WritePin", **write)

    await asyncio.to_thread(own_postgres.start)
    assert (await sender.send()).status_code == 200
    assert await sender.stored() == sender.acknowledged
    await busbar.client("grpc", alice.session).call("PinService.WritePin", **write)
