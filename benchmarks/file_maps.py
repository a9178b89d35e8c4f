"""Maps of a project of 3,000 files, asked for as the command line does, against mere parsing of the same files in one thread.

What maps cost beside parsing is the walk through the trees and the signatures. How long others wait meanwhile tells whether the
server stays at their service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, cast

from tree_sitter_language_pack import get_parser

from benchmarks.rows import Budget, Row, absolute, compare
from core.kernel.call import Call, Principal
from core.plans.file_maps import MOST_PATHS, FileMapService
from core.plans.source_maps import language_of
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.plans.v1.file_maps_pb import CreateFileMapRequest

FILES, ROUNDS, TICK_SECONDS = 3000, 5, 0.005
PEER = "tree-sitter, parsing alone, one thread"
CALL = Call(principal=Principal("credential", CredentialKind.SESSION, "org", "user"))

_UNITS = {
    "py": 'class Part{n}:\n    """A part."""\n\n    def run(self, value: int) -> int:\n        total = value * {n}\n'
    "        for step in range(value):\n            total += step\n        return total\n\n\n",
    "cpp": "class Part{n} {{\n public:\n  int run(int value) {{\n    int total = value * {n};\n"
    "    for (int i = 0; i < value; i++) {{\n      total += i;\n    }}\n    return total;\n  }}\n}};\n\n",
    "ts": "export class Part{n} {{\n  run(value: number): number {{\n    let total = value * {n};\n"
    "    for (let i = 0; i < value; i++) {{\n      total += i;\n    }}\n    return total;\n  }}\n}}\n\n",
    "go": "type Part{n} struct {{\n\tvalue int\n}}\n\nfunc (p *Part{n}) Run(value int) int {{\n\ttotal := value * {n}\n"
    "\tfor i := 0; i < value; i++ {{\n\t\ttotal += i\n\t}}\n\treturn total\n}}\n\n",
}


async def run() -> list[Row]:
    """Measure."""
    # Nothing of a plan is needed to make maps of files.
    service = FileMapService(*cast("tuple[Any, Any, Any]", (None, None, None)))
    files = dict(_files())
    try:
        await _ours(service, files)
        rounds = [(*await _ours(service, files), await asyncio.to_thread(_peer, files)) for _ in range(ROUNDS)]
    finally:
        await service.stop()
    ours, waits, peer = zip(*rounds, strict=True)
    what = f"map of {FILES:,} files"
    return [
        compare(what, "files/s", ours, PEER, peer, Budget(0.3)),
        absolute(f"{what}, longest wait of others meanwhile", "ms", waits, Budget(100, at_most=True)),
    ]


def _files() -> Iterator[tuple[str, str]]:
    """Yield files of about a hundred lines in four languages."""
    for number in range(FILES):
        ending, unit = list(_UNITS.items())[number % len(_UNITS)]
        yield f"src/package{number % 20}/file{number}.{ending}", "".join(unit.format(n=part) for part in range(10))


async def _ours(service: FileMapService, files: dict[str, str]) -> tuple[float, float]:
    """Return files a second, and the longest time in milliseconds for which the server answered nobody."""
    paths = list(files)
    watch = asyncio.create_task(_longest_wait())
    await asyncio.sleep(0)
    began = time.perf_counter()
    for start in range(0, FILES, MOST_PATHS):
        inputs = {path: files[path] for path in paths[start : start + MOST_PATHS]}
        answer = await service.create_file_map(CreateFileMapRequest(map_inputs=inputs), CALL)
        assert all(answer.map_bodies.values())
    seconds = time.perf_counter() - began
    watch.cancel()
    (waited,) = await asyncio.gather(watch)
    return FILES / seconds, waited * 1000


async def _longest_wait() -> float:
    longest = 0.0
    try:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(TICK_SECONDS)
            longest = max(longest, time.perf_counter() - began - TICK_SECONDS)
    except asyncio.CancelledError:
        return longest


def _peer(files: dict[str, str]) -> float:
    """Return files a second."""
    parsers = {ending: get_parser(cast("Any", language_of(f"a.{ending}"))) for ending in _UNITS}
    began = time.perf_counter()
    for path, text in files.items():
        parsers[path.rpartition(".")[2]].parse(text.encode())
    return FILES / (time.perf_counter() - began)
