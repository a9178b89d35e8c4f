"""How the server talks to an instance of a plugin, be it part of Busbar or in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import structlog

from core.lab.plugin_api import DIRECTIONS, Channel, DevicePlugin

T = TypeVar("T")

HOST = Path(__file__).with_name("plugin_host.py")
MOST_LINE = 1_048_576
MOST_CHANNELS = 200
_START_SECONDS = 20.0
"""What a process may take to start and to load its plugin, on a machine that is busy with other things."""
_CLOSE_SECONDS = 2.0

log = structlog.get_logger("busbar.lab")


class PluginFailed(Exception):
    """A plugin failed, hangs or is broken; the text is for people."""


class Driver(Protocol):
    """One instance of a plugin. Calls are made one at a time; each raises PluginFailed."""

    async def open(self, config: Mapping[str, Any], *, demo: bool) -> list[Channel]:
        """Make the instance, configure it, and return its channels."""
        ...

    async def connect(self) -> None:
        """Open the device."""
        ...

    async def read(self) -> dict[str, float]:
        """Return finite values by channel id."""
        ...

    async def write(self, channel: str, value: float) -> None:
        """Set an output."""
        ...

    async def close(self) -> None:
        """Close the device and let go of everything; never raises."""
        ...


class LocalDriver:
    """A plugin that is part of Busbar, which is known not to block."""

    def __init__(self, plugin: type[DevicePlugin], seconds: float) -> None:
        self._plugin = plugin()
        self._seconds = seconds

    async def open(self, config: Mapping[str, Any], *, demo: bool) -> list[Channel]:
        """Configure the instance."""
        self._plugin.configure(config, demo_mode=demo)
        return list(self._plugin.channels)

    async def connect(self) -> None:
        """Open the device."""
        await self._within(self._plugin.connect())

    async def read(self) -> dict[str, float]:
        """Return its values."""
        return _finite(await self._within(self._plugin.read()))

    async def write(self, channel: str, value: float) -> None:
        """Set an output."""
        await self._within(self._plugin.write(channel, value))

    async def close(self) -> None:
        """Close the device."""
        with contextlib.suppress(PluginFailed):
            await self._within(self._plugin.disconnect())

    async def _within(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._seconds):
                return await call
        except TimeoutError:
            raise PluginFailed(f"no answer within {self._seconds:g} seconds") from None
        except Exception as error:
            raise PluginFailed(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class Place:
    """Where plugins are.

    Attributes:
        interpreter: Python that runs them.
        site: Folder of their package; None for the environment of the interpreter.
    """

    interpreter: Path
    site: Path | None = None


class PluginProcess:
    """A process that holds plugins. A call that takes too long ends it."""

    def __init__(self, process: Process, seconds: float) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("the process has no pipes")
        self._process = process
        self._in, self._out, self._err = process.stdin, process.stdout, process.stderr
        self._seconds = seconds
        self._said: deque[str] = deque(maxlen=5)
        self._asked = 0
        self._listening = asyncio.create_task(self._listen(), name="lab-plugin-stderr")

    @classmethod
    async def start(cls, place: Place, seconds: float) -> PluginProcess:
        """Start a process.

        Raises:
            PluginFailed: The system starts none.
        """
        where = [] if place.site is None else ["--site", str(place.site)]
        try:
            process = await asyncio.create_subprocess_exec(
                str(place.interpreter),
                "-I",
                str(HOST),
                *where,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                limit=MOST_LINE,
                cwd=place.site,
                # No secrets of the server, which come to it by its environment.
                env={name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ},
                start_new_session=True,
            )
        except OSError as error:
            raise PluginFailed(f"no process can be started: {error.strerror}") from error
        return cls(process, seconds)

    async def call(self, do: str, *, seconds: float | None = None, **fields: object) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            PluginFailed: The plugin said so, hangs, or its process ended.
        """
        seconds = self._seconds if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds):
                answer = await self._exchange({"do": do, **fields})
        except TimeoutError:
            self._kill()
            raise PluginFailed(f"no answer within {seconds:g} seconds") from None
        except (OSError, ValueError, asyncio.LimitOverrunError) as error:
            self._kill()
            raise PluginFailed("its process broke off") from error
        if "error" in answer:
            raise PluginFailed(str(answer["error"]))
        return answer

    async def stop(self) -> None:
        """End the process and all that it started."""
        self._kill()
        await self._process.wait()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def _exchange(self, request: dict[str, object]) -> dict[str, Any]:
        self._asked += 1
        self._in.write(json.dumps({**request, "id": self._asked}).encode() + b"\n")
        await self._in.drain()
        # Before it may stand the answer to a request that nobody waits for any more.
        while line := await self._out.readline():
            answer: Any = json.loads(line)
            if isinstance(answer, dict) and answer.pop("id", None) == self._asked:  # pyright: ignore[reportUnknownMemberType]
                return answer  # pyright: ignore[reportUnknownVariableType]
        await asyncio.gather(self._listening, return_exceptions=True)
        raise PluginFailed(f"its process ended: {' '.join(self._said)[-300:]}".rstrip(": "))

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _listen(self) -> None:
        """Take what a plugin prints, so that it never waits for a reader; the last of it explains its end."""
        rest = b""
        while chunk := await self._err.read(65_536):
            *lines, rest = (rest + chunk)[-65_536:].split(b"\n")
            for line in lines:
                self._said.append(line.decode(errors="replace")[:300])
                log.debug("a plugin printed", line=self._said[-1])


class ProcessDriver:
    """A plugin in a process of its own."""

    def __init__(self, place: Place, plugin_id: str, seconds: float) -> None:
        self._place = place
        self._plugin_id = plugin_id
        self._seconds = seconds
        self._process: PluginProcess | None = None

    async def open(self, config: Mapping[str, Any], *, demo: bool) -> list[Channel]:
        """Start the process and configure the instance."""
        self._process = await PluginProcess.start(self._place, self._seconds)
        answer = await self._process.call(
            "open", seconds=_START_SECONDS, plugin=self._plugin_id, config=dict(config), demo=demo
        )
        return _channels(answer.get("channels"))

    async def connect(self) -> None:
        """Open the device."""
        await self._call("connect")

    async def read(self) -> dict[str, float]:
        """Return its values."""
        return _finite((await self._call("read")).get("values"))

    async def write(self, channel: str, value: float) -> None:
        """Set an output."""
        await self._call("write", channel=channel, value=value)

    async def close(self) -> None:
        """Close the device and end the process."""
        if self._process is None:
            return
        try:
            with contextlib.suppress(PluginFailed):
                await self._process.call("close", seconds=_CLOSE_SECONDS)
        finally:
            await asyncio.shield(self._process.stop())

    async def _call(self, do: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        if self._process is None:
            raise PluginFailed("it is not open")
        return await self._process.call(do, **fields)


async def describe(place: Place, seconds: float) -> list[dict[str, Any]]:
    """Return what the plugins of a place say of themselves.

    Raises:
        PluginFailed: They cannot be asked.
    """
    process = await PluginProcess.start(place, seconds)
    try:
        answer = await process.call("describe", seconds=_START_SECONDS)
    finally:
        await asyncio.shield(process.stop())
    return [one for one in _items(answer.get("plugins")) if one]


def _members(found: object) -> dict[str, Any]:
    """Return a JSON object as such; nothing of what is none."""
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _items(found: object) -> list[dict[str, Any]]:
    return [_members(one) for one in cast("list[object]", found)] if isinstance(found, list) else []


def _finite(values: object) -> dict[str, float]:
    """Return the numbers among values that were read; a plugin has no number to tell by leaving it out, or by NaN."""
    return {
        str(name): float(value)
        for name, value in _members(values).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _channels(found: object) -> list[Channel]:
    """Return channels as a process told them, checked as those of a stranger."""
    said = _items(found)
    if len(said) > MOST_CHANNELS:
        raise PluginFailed(f"it has more than {MOST_CHANNELS} channels")
    return [_channel(one) for one in said]


def _channel(said: dict[str, Any]) -> Channel:
    try:
        channel = Channel(
            str(said["id"])[:100],
            str(said.get("name") or said["id"])[:255],
            str(said.get("direction") or "input"),
            str(said.get("unit") or "1")[:50],
            float(said.get("low", 0.0)),
            float(said.get("high", 100.0)),
        )
    except (KeyError, TypeError, ValueError):
        raise PluginFailed("one of its channels makes no sense") from None
    if not channel.id or channel.direction not in DIRECTIONS or not math.isfinite(channel.low + channel.high):
        raise PluginFailed(f"channel {channel.id} has no id, no such direction or no range")
    return channel
