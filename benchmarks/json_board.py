"""A board of 16 pins from JSON into messages and back, against google's json_format with stubs that the stock tools make."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rows import Budget, Row, compare
from tools.generate import ROOT, installed_descriptors

FILES = (
    "busbar/api/v1/options.proto",
    "busbar/maker/v1/ota_jobs.proto",
    "busbar/maker/v1/pins.proto",
    "buf/validate/validate.proto",
)


def make_stubs(folder: Path) -> None:
    """Generate google's Python classes of the protos into a folder."""
    imports = folder / "imports.binpb"
    imports.write_bytes(installed_descriptors())
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={imports}", f"-I{ROOT / 'proto'}"]
    subprocess.run([*command, f"--python_out={folder}", *FILES], check=True)
    # The installed command is a module named busbar, which would win over a folder that is no package.
    for path in ("busbar", "busbar/api", "busbar/maker"):
        (folder / path / "__init__.py").touch()


async def run() -> list[Row]:
    """Measure both in one process, whose import path begins with the stubs."""
    with tempfile.TemporaryDirectory() as folder:
        await asyncio.to_thread(make_stubs, Path(folder))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(ROOT)])}
        script = str(Path(__file__).parent / "peers" / "google_json.py")
        process = await asyncio.create_subprocess_exec(sys.executable, script, stdout=asyncio.subprocess.PIPE, env=environment)
        out, _ = await process.communicate()
    ours, peer = json.loads(out)
    return [compare("JSON -> message -> JSON, board of 16 pins", "boards/s", ours, "google json_format", peer, Budget(20))]
