"""Environments with real releases of the SDK, made once and kept beside the project's own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

VERSIONS = ("0.1.0", "0.4.9", "0.9.1", "0.12.1", "0.16.0")
DRIVER = Path(__file__).with_name("driver.py")
CLIENTS = Path(sys.prefix) / "clients"
WAIT_SECONDS = 60.0
INSTALL_SECONDS = 100.0


@dataclass
class Raised(Exception):
    """The SDK raised."""

    name: str
    text: str


class Sdk:
    """One release at work, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, name: str, **arguments: Any) -> Any:
        """Let it do something and return what came of it.

        Raises:
            Raised: It raised.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": name, **arguments}).encode() + b"\n")
        async with asyncio.timeout(WAIT_SECONDS):
            line = await self._process.stdout.readline()
        assert line, "the driver ended"
        answer: dict[str, Any] = json.loads(line)
        if "raised" in answer:
            raise Raised(answer["raised"], answer["text"])
        return answer["answer"]


Driving = Callable[..., AbstractAsyncContextManager[Sdk]]


@pytest.fixture(scope="session", params=VERSIONS)
def python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of an environment that holds one release."""
    version: str = request.param
    folder = CLIENTS / f"plexus-{version}"
    if not (folder / "bin" / "python").exists():
        _install(folder, f"plexus-python=={version}")
    return folder / "bin" / "python"


def _install(folder: Path, requirement: str) -> None:
    new = folder.with_name(f"{folder.name}.{os.getpid()}")
    new.parent.mkdir(exist_ok=True)
    uv = Path(sys.executable).with_name("uv")
    python = new / "bin" / "python"
    if uv.exists():
        commands = [
            [uv, "venv", "-q", "-p", sys.executable, new],
            [uv, "pip", "install", "-q", "--python", python, requirement],
        ]
    else:
        commands = [[sys.executable, "-m", "venv", new], [python, "-m", "pip", "install", "-q", requirement]]
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        if not folder.exists():
            # Another worker may be faster; what it made is as good.
            new.rename(folder)
    except (subprocess.SubprocessError, OSError) as error:
        if folder.exists():
            return
        pytest.skip(f"{requirement} cannot be installed: {getattr(error, 'stderr', None) or error}")
    finally:
        shutil.rmtree(new, ignore_errors=True)


@pytest.fixture
def driving(python: Path, tmp_path: Path) -> Driving:
    """Start a release against a server."""
    home = tmp_path / "home"
    home.mkdir()

    @asynccontextmanager
    async def drive(url: str, key: str) -> AsyncGenerator[Sdk]:
        environment = {"HOME": str(home), "PLEXUS_GATEWAY_URL": url, "PLEXUS_ENDPOINT": url, "PLEXUS_API_KEY": key}
        with (tmp_path / "sdk.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                python, "-I", DRIVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment
            )
        try:
            yield Sdk(process)
        finally:
            ending = asyncio.get_running_loop().call_later(WAIT_SECONDS, process.kill)
            await process.communicate(b"")
            ending.cancel()

    return drive
