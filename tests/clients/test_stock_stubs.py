"""Stubs that any team generates from our protos with the ordinary tools work the whole server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from protovalidate._gen.buf.validate import validate_pb

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tools.generate import ROOT, installed_descriptors

CLIENT = Path(__file__).with_name("stock_client.py")
PROTOS = ROOT / "proto"


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stubs of every proto, by protoc and its Python plugins."""
    folder = tmp_path_factory.mktemp("stubs")
    imports = folder / "imports.binpb"
    imports.write_bytes(installed_descriptors())
    ours = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={imports}", f"-I{PROTOS}"]
    outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    subprocess.run([*command, *outputs, *ours, validate_pb.desc().name], check=True)
    # A package proper: where this project is installed, its program is a module of that name.
    (folder / "busbar" / "__init__.py").touch()
    return folder


async def test_stock_stubs_register_work_a_board_send_columns_plan_and_read_refusals(
    busbar: Running, alice: Person, stubs: Path
) -> None:
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write")
    command = [sys.executable, str(CLIENT), str(stubs), busbar.server.grpc_address, key]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    client = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    late = asyncio.get_running_loop().call_later(60, client.kill)
    out, err = await client.communicate()
    late.cancel()
    assert client.returncode == 0, err.decode()
    said = json.loads(out)
    assert said["pin"] == [1, "user", 21.5, "21.5"]
    assert said["plans"] == ["parser"]
    assert said["columns"] == [[1, 3, 3, False], [2, 1, 0, True], [3, 1, 1, False]]
    refusals = said["refusals"]
    assert {name: refusal["code"] for name, refusal in refusals.items()} == {
        "range": "INVALID_ARGUMENT", "board": "NOT_FOUND", "caller": "UNAUTHENTICATED",
    }  # fmt: skip
    assert refusals["range"]["fields"] == ["pin_index"]
    assert all(refusal["domain"] and refusal["known"] for refusal in refusals.values())
