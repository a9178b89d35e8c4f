"""The server in a process of its own, which tests may kill, starve and start again.

Processes are forked from one that has imported everything, because the import takes longer than the life of most of them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import uvloop

from adapters.console import serving as console
from core.app import App
from core.identity.accounts import FirstAdmin
from core.kernel.logging import configure_logging
from core.kernel.settings import Settings
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.databases import migrated_sqlite

WAIT_SECONDS = 60.0
PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Account:
    """Somebody in a data directory that no server has opened yet."""

    org_id: str
    session: str
    telemetry_key: str


async def prepare(data: Path, database: str = "") -> Account:
    """Set up a data directory, or a database elsewhere, with a user, their session and a telemetry key."""
    if not database:
        await migrated_sqlite(data / "busbar.db")
    app = await App.create(Settings(data=data, database=database))
    try:
        account = await app.identity.register("alice@example.com", PASSWORD, username="alice")
        key = await app.identity.issue(CredentialKind.TELEMETRY_KEY, account.org_id, user_id=None, scopes=("write", "read"))
    finally:
        await app.close()
    assert account.session is not None
    return Account(account.org_id, account.session.secret, key.secret)


class ServerProcess:
    """One server process.

    Attributes:
        http: Where HTTP clients reach it.
        grpc: Where gRPC clients reach it, `host:port`.
        log: Everything it wrote to standard output and error.
    """

    def __init__(self, process: BaseProcess, log: Any) -> None:
        self.http = self.grpc = ""
        self.log = bytearray()
        self._process = process
        self._reader = threading.Thread(target=self._read, args=(log,), daemon=True)
        self._reader.start()

    @property
    def port(self) -> int:
        """Port of its HTTP doors."""
        return int(self.http.rpartition(":")[2])

    async def answers(self, ready: Any) -> None:
        """Wait until every door answers."""
        assert await asyncio.to_thread(ready.poll, WAIT_SECONDS), "the server does not come up"
        try:
            said: dict[str, str] = ready.recv()
        except EOFError:
            raise AssertionError(self.log.decode()) from None
        self.http, self.grpc = said["http"], said["grpc"]

    def limit_files(self, most: int) -> None:
        """Let no file grow over `most` bytes from now on, -1 for no limit."""
        assert self._process.pid is not None
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    async def end(self, number: int = signal.SIGTERM) -> None:
        """Send a signal and wait for the end."""
        if self._process.is_alive():
            assert self._process.pid is not None
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
        await asyncio.to_thread(self._process.join, WAIT_SECONDS)
        assert not self._process.is_alive(), "the server does not end"
        await asyncio.to_thread(self._reader.join, WAIT_SECONDS)

    async def kill(self) -> None:
        """End it the hard way."""
        await self.end(signal.SIGKILL)

    def _read(self, log: Any) -> None:
        while chunk := os.read(log.fileno(), 65_536):
            self.log += chunk
        log.close()


@asynccontextmanager
async def serving(data: Path, **settings: Any) -> AsyncGenerator[ServerProcess]:
    """Serve a data directory on free ports until the block ends."""
    chosen = {"data": data, "http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "rate_limits": "off", "admin_password": PASSWORD}
    context = _context()
    ready, announce = context.Pipe(duplex=False)
    log, write_log = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=({**chosen, **settings}, announce, write_log), daemon=True)
    await asyncio.to_thread(process.start)
    announce.close()
    write_log.close()
    server = ServerProcess(process, log)
    try:
        await server.answers(ready)
        yield server
    finally:
        ready.close()
        await server.kill()
        process.close()


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "pytest"])
    return context


def _serve(settings: dict[str, Any], announce: Connection, log: Connection) -> None:
    """Do what `busbar serve` does."""
    sys.stdout.flush()
    for stream in (1, 2):
        os.dup2(log.fileno(), stream)
    log.close()
    chosen = Settings(**settings)
    configure_logging(chosen)

    def ready(where: console.Ready, _admin: FirstAdmin | None) -> None:
        announce.send(where.as_dict())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(console.serve(chosen, ready))
