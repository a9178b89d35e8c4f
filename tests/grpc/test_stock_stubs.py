"""Stubs that any team generates from our protos with the ordinary tools work against the server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from protovalidate._gen.buf.validate import validate_pb

from tests.grpc.serving import Serving
from tools.generate import ROOT, installed_descriptors

CLIENT = Path(__file__).with_name("stock_client.py")
OURS = ("busbar/api/v1/options.proto", "busbar/maker/v1/ota_jobs.proto", "busbar/maker/v1/pins.proto")
THEIRS = (validate_pb.desc().name,)


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stubs")
    imports = folder / "imports.binpb"
    imports.write_bytes(installed_descriptors())
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={imports}", f"-I{ROOT / 'proto'}"]
    outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    subprocess.run([*command, *outputs, *OURS, *THEIRS], check=True)
    # The installed command is a module named busbar, which would win over a folder that is no package.
    for path in ("busbar", "busbar/api", "busbar/maker"):
        (folder / path / "__init__.py").touch()
    return folder


async def test_stock_stubs_speak_every_kind_of_call(server: Serving, stubs: Path) -> None:
    command = [sys.executable, str(CLIENT), str(stubs), server.address]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    client = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    async with asyncio.timeout(60):
        out, err = await client.communicate()
    assert client.returncode == 0, err.decode()
    assert json.loads(out) == {"read": 21.5, "wrote": "on", "watched": [1, 2, 3], "talk": ["snapshot", "pong"]}
