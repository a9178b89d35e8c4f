"""The process in which a plugin runs that is not part of Busbar.

Run by path, not imported: it needs the standard library alone, and finds the plugins of one folder (`--site`), or else those of
the environment of its interpreter. It answers each line of standard input, a JSON object, with one on standard output:

    {"do": "describe"}                          {"plugins": [{"id": id, "meta": {...}} or {"id": id, "error": text}]}
    {"do": "open", "plugin": id, "config": {...}, "demo": true}                                    {"channels": [{...}]}
    {"do": "connect"} and {"do": "close"}                                                                             {}
    {"do": "read"}                                                                         {"values": {channel: number}}
    {"do": "write", "channel": channel, "value": number}                                                              {}

A failure is answered with {"error": text}; `id` of a request is that of its answer. It ends with its input, whatever the plugin
is doing.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import inspect
import json
import os
import queue
import sys
import threading
import types
from dataclasses import asdict, is_dataclass
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import Any

GROUP = "webmacs.plugins"
MOST_ERROR = 400


def main() -> None:
    """Answer requests until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--site", type=Path)
    site: Path | None = parser.parse_args().site
    # What a plugin prints must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if site is not None:
        sys.path.insert(0, str(site))
        _offer_api()
    host, requests = _Host(site), _requests()
    with asyncio.Runner() as runner:
        while True:
            line = requests.get()
            answers.write(json.dumps(runner.run(host.answer(line))) + "\n")
            answers.flush()


def _requests() -> queue.Queue[str]:
    """Read lines in a thread, so that the end of the input is noticed while a plugin hangs."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _offer_api() -> None:
    """Let plugins import `core.lab.plugin_api`, and nothing else of the server."""
    for name in ("core", "core.lab"):
        package = types.ModuleType(name)
        package.__path__ = []
        sys.modules[name] = package
    name = "core.lab.plugin_api"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("plugin_api.py"))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


class _Host:
    """Holds the one plugin that was opened."""

    def __init__(self, site: Path | None) -> None:
        self._site = site
        self._plugin: Any = None

    async def answer(self, line: str) -> dict[str, Any]:
        """Return the answer to a request."""
        request: dict[str, Any] = json.loads(line)
        number = request.pop("id")
        try:
            answer = await getattr(self, f"do_{request.pop('do')}")(**request)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises is its answer
            answer = {"error": f"{type(error).__name__}: {error}"[:MOST_ERROR]}
        return {**answer, "id": number}

    async def do_describe(self) -> dict[str, Any]:
        return {"plugins": [_described(point) for point in self._points()]}

    async def do_open(self, plugin: str, config: dict[str, Any], *, demo: bool) -> dict[str, Any]:
        point = next((point for point in self._points() if point.name == plugin), None)
        if point is None:
            raise LookupError(f"there is no plugin {plugin}")
        self._plugin = _loaded(point)()
        await _ended(self._plugin.configure(config, demo_mode=demo))
        return {"channels": [_fields(channel) for channel in self._plugin.channels]}

    async def do_connect(self) -> dict[str, Any]:
        await _ended(self._plugin.connect())
        return {}

    async def do_read(self) -> dict[str, Any]:
        values = await _ended(self._plugin.read())
        return {"values": {str(name): float(value) for name, value in values.items()}}

    async def do_write(self, channel: str, value: float) -> dict[str, Any]:
        await _ended(self._plugin.write(channel, value))
        return {}

    async def do_close(self) -> dict[str, Any]:
        await _ended(self._plugin.disconnect())
        return {}

    def _points(self) -> list[EntryPoint]:
        found = distributions() if self._site is None else distributions(path=[str(self._site)])
        points = [point for distribution in found for point in distribution.entry_points if point.group == GROUP]
        return list({point.name: point for point in reversed(points)}.values())


def _loaded(point: EntryPoint) -> Any:  # noqa: ANN401 - a stranger's class
    plugin = point.load()
    missing = [name for name in ("meta", "configure", "connect", "read", "write", "disconnect") if not hasattr(plugin, name)]
    if not isinstance(plugin, type) or missing:
        raise TypeError(f"{point.value} is no device plugin: it has no {', '.join(missing) or 'class'}")
    return plugin


def _described(point: EntryPoint) -> dict[str, Any]:
    try:
        meta = _fields(_loaded(point).meta)
    except Exception as error:  # noqa: BLE001 - one that cannot be loaded is skipped, whatever the reason
        return {"id": point.name, "error": f"{type(error).__name__}: {error}"[:MOST_ERROR]}
    return {"id": point.name, "meta": {**meta, "id": point.name}}


def _fields(thing: object) -> dict[str, Any]:
    if is_dataclass(thing) and not isinstance(thing, type):
        return asdict(thing)
    return {name: value for name, value in vars(thing).items() if not name.startswith("_")}


async def _ended(result: Any) -> Any:  # noqa: ANN401 - what a stranger's method returns
    """Return what a method returned, whether it is a coroutine or not."""
    return await result if inspect.isawaitable(result) else result


if __name__ == "__main__":
    main()
