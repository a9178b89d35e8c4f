"""What every test of the whole server shares: a server of its own, people, and clients for every door."""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from adapters.server import Server
from core.app import App
from core.identity import secrets
from core.kernel.clock import Clock
from core.kernel.settings import Settings
from core.storage import database as storage_database
from core.storage import sqlite as storage_sqlite
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.databases import migrated_sqlite
from tests.doors import Door, GrpcClient, McpClient, RestClient
from tests.once import reading_once

PASSWORD = "correct horse battery"
COUNTED = "counted"
"""Property of a test that holds a sentence for the end of the run: what it counted."""


class MovableClock(Clock):
    """A clock that a test can put forward."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def now_us(self) -> int:
        """Return the time, as far ahead as the test wants."""
        return super().now_us() + self.ahead_us

    def forward(self, *, seconds: float) -> None:
        """Put the clock forward."""
        self.ahead_us += int(seconds * 1_000_000)


@dataclass
class Person:
    """A registered user and what they hold."""

    id: str
    email: str
    org_id: str
    session: str
    keys: dict[str, str] = field(default_factory=dict[str, str])


class Running:
    """A server on free ports, with helpers to people it."""

    def __init__(self, app: App, server: Server, clock: MovableClock) -> None:
        self.app = app
        self.server = server
        self.clock = clock
        self.rpcs = app.platform.rpcs
        self._clients: list[Door] = []
        self._again: dict[str, Any] = {}
        self._people = 0

    @property
    def url(self) -> str:
        """Where HTTP clients reach the server."""
        return self.server.http_url

    @property
    def ws_url(self) -> str:
        """Where WebSocket clients reach the server."""
        return self.url.replace("http", "ws", 1)

    def client(self, door: str, credential: str | None = None) -> Any:
        """Return a client for `grpc`, `rest` or `mcp`."""
        if door == "grpc":
            client: Door = GrpcClient(self.rpcs, credential, self.server.grpc_address)
        else:
            kind = McpClient if door == "mcp" else RestClient
            client = kind(self.rpcs, credential, self.url)
        self._clients.append(client)
        return client

    def again(self, door: str, credential: str | None) -> Any:
        """Return one and the same client of a door, from now on with another credential: for cases by the thousand."""
        client = self._again.get(door) or self._again.setdefault(door, self.client(door))
        client.credential = credential
        if door != "grpc":
            client.http.cookies.clear()
        return client

    def http(self, credential: str | None = None, **headers: str) -> httpx.AsyncClient:
        """Return a plain HTTP client."""
        if credential:
            headers["Authorization"] = f"Bearer {credential}"
        return self.client("rest").http if not headers else self._plain(headers)

    def _plain(self, headers: dict[str, str]) -> httpx.AsyncClient:
        client = self.client("rest")
        client.http.headers.update(headers)
        return client.http

    async def person(self, name: str = "") -> Person:
        """Register somebody."""
        self._people += 1
        name = name or f"person{self._people}"
        account = await self.app.identity.register(f"{name}@example.com", PASSWORD, username=name)
        assert account.session is not None
        return Person(account.user.id, account.user.email, account.org_id, account.session.secret)

    async def key(self, person: Person, kind: CredentialKind, *scopes: str, **more: Any) -> str:
        """Issue a credential for somebody."""
        user = None if kind == CredentialKind.TELEMETRY_KEY else person.id
        issued = await self.app.identity.issue(kind, person.org_id, user_id=user, scopes=scopes or ("*",), **more)
        return issued.secret

    async def board(self, person: Person, name: str = "Bench") -> Any:
        """Make a board; the answer holds its device token."""
        return await self.client("grpc", person.session).call("BoardService.CreateBoard", name=name)

    async def close(self) -> None:
        """Close every client."""
        for client in self._clients:
            await client.close()


Start = Callable[..., Awaitable[Running]]


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> None:
    """Hash passwords at the least cost: the people of these tests live for seconds, and there are thousands of them."""
    secrets._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)  # pyright: ignore[reportPrivateUsage]


@pytest.fixture(scope="session", autouse=True)
def quick_disk() -> Iterator[None]:
    """Never wait for the disk: no file here outlives the machine. Servers in processes of their own do wait."""
    with pytest.MonkeyPatch.context() as patch:
        open_connection, prepare = storage_sqlite.open_connection, storage_database._prepare_sqlite

        def open_quick(path: str, busy_timeout_s: float) -> sqlite3.Connection:
            connection = open_connection(path, busy_timeout_s)
            connection.execute("PRAGMA synchronous=OFF")
            return connection

        def prepare_quick(connection: Any, record: object) -> None:
            prepare(connection, record)
            connection.cursor().execute("PRAGMA synchronous=OFF")

        patch.setattr(storage_sqlite, "open_connection", open_quick)
        patch.setattr(storage_database, "_prepare_sqlite", prepare_quick)
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def reading_descriptors_once() -> Iterator[None]:
    """Start servers without reading anew what is the same for all."""
    with reading_once():
        yield


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over all that was imported: with it, each of its rounds takes a quarter of a second."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests counted, wherever they ran."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            properties = report.user_properties if isinstance(report, pytest.TestReport) and report.when == "call" else []
            for sentence in (value for name, value in properties if name == COUNTED):
                terminalreporter.write_line(str(sentence))


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start servers with chosen settings; all stop with the test."""
    running: list[Running] = []

    async def begin(**settings: Any) -> Running:
        clock = MovableClock()
        defaults: dict[str, Any] = {
            "data": tmp_path / "data",
            "http": "127.0.0.1:0",
            "grpc": "127.0.0.1:0",
            "rate_limits": "off",
        }
        chosen = Settings(**{**defaults, **settings})
        if not chosen.database:
            await migrated_sqlite(chosen.data / "busbar.db")
        app = await App.create(chosen, clock=clock)
        started = Running(app, await Server.start(app), clock)
        running.append(started)
        return started

    yield begin
    for one in running:
        await one.close()
        await one.server.stop(1)
        await one.app.close()


@pytest.fixture
async def busbar(start: Start) -> Running:
    """A server on SQLite without rate limits."""
    return await start()


@pytest.fixture
async def alice(busbar: Running) -> Person:
    """A user with an organisation of her own."""
    return await busbar.person("alice")


@pytest.fixture
async def eve(busbar: Running) -> Person:
    """A user of another organisation."""
    return await busbar.person("eve")


@pytest.fixture
async def bench(busbar: Running, alice: Person) -> Any:
    """A board of Alice's."""
    return await busbar.board(alice)
