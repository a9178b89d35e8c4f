"""Runs commands: those that end at once in this process, servers as their user does, in one of their own."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from busbar import cli

PROGRAM = Path(sys.executable).parent / "busbar"
WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


@dataclass
class Serving:
    """A server that runs in a process of its own."""

    process: subprocess.Popen[str]
    first_line: str

    @property
    def ready(self) -> dict[str, str]:
        """What it said when it was ready."""
        return json.loads(self.first_line)

    def stop(self, number: int = signal.SIGTERM) -> Done:
        """Ask it to stop; return what else it printed."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        late = threading.Timer(WAIT_SECONDS, self.process.kill)
        late.start()
        # Not by `communicate`, which does not see what came together with the first line and was read with it.
        with self.process.stdout, self.process.stderr, ThreadPoolExecutor(1) as pool:
            errors = pool.submit(self.process.stderr.read)
            out = self.process.stdout.read()
            err = errors.result()
        self.process.wait()
        late.cancel()
        return Done(self.process.returncode, out, err)


Run = Callable[..., Done]
Serve = Callable[..., Serving]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory that is not there yet."""
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests."""
    for name in os.environ:
        if name.startswith("BUSBAR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run() -> Iterator[Run]:
    """Run a command to its end."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def begin(*arguments: object, stdin: str = "", **env: str) -> Done:
        result = CliRunner(env={"COLUMNS": "200", **env}).invoke(cli, [str(part) for part in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    yield begin
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def serve(data: Path) -> Iterator[Serve]:
    """Start servers on free ports; all stop with the test."""
    started: list[Serving] = []

    def begin(*flags: object, **env: str) -> Serving:
        command = [PROGRAM, "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data", data, *map(str, flags)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1", **env}
        )
        started.append(Serving(process, ""))
        assert process.stdout is not None
        late = threading.Timer(WAIT_SECONDS, process.kill)
        late.start()
        started[-1].first_line = process.stdout.readline()
        late.cancel()
        assert started[-1].first_line, process.communicate()[1]
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()
