"""The server as its user starts it: in local mode, with the development model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(sys.executable).parent / "busbar"
WAIT_SECONDS = 60.0


@contextmanager
def serving(data: Path) -> Generator[str]:
    """Serve on free ports and hand out the address; the process ends with the block."""
    flags = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--local-mode", "--dev-model", "--json")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BUSBAR_")}
    # The tests are one user who signs in again and again.
    environment["BUSBAR_RATE_LIMITS"] = "off"
    log = (data.parent / f"{data.name}.log").open("w+")
    with (
        log,
        subprocess.Popen(
            [PROGRAM, "serve", "--data", data, *flags],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            cwd=data.parent,
        ) as process,
    ):
        late = threading.Timer(WAIT_SECONDS, process.kill)
        late.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            late.cancel()
            log.seek(0)
            assert line, log.read()
            yield json.loads(line)["http"]
        finally:
            late.cancel()
            process.kill()
