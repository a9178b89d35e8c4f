"""Measures the performance budgets, prints one table and writes results.json. Exits 1 when a budget is missed.

usage: python -m benchmarks [NAME ...]
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import uvloop

from benchmarks.rows import Row, table

NAMES = (
    "rest",
    "grpc_unary",
    "json_board",
    "ingest",
    "pin_writes",
    "series",
    "start",
    "live",
    "telemetry_load",
    "lab",
    "plans",
    "plan_stream",
    "file_maps",
)
RESULTS = Path(__file__).with_name("results.json")


async def measure(names: Sequence[str]) -> list[Row]:
    """Run benchmarks one after the other."""
    rows: list[Row] = []
    for name in names:
        began = time.perf_counter()
        rows += await import_module(f"benchmarks.{name}").run()
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return rows


def save(rows: Sequence[Row]) -> None:
    """Keep the results of a whole run."""
    results = {
        "rows": [row.as_dict() for row in rows],
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def main(names: Sequence[str]) -> int:
    """Run all benchmarks or the named ones; only a whole run is kept."""
    unknown = set(names) - set(NAMES)
    if unknown:
        print(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    rows = uvloop.run(measure(names or NAMES))
    print(table(rows))
    if not names:
        save(rows)
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
