"""Compiles `desk.proto` and serves it, since no service of ours has every shape of frame."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from protobuf import Oneof

from core.kernel.call import Call
from core.kernel.errors import Unauthenticated, Unavailable
from core.kernel.pipeline import Platform
from core.kernel.rpc import bind
from tests.grpc.fake_pins import People
from tools.generate import BIN, ROOT, installed_descriptors


def compile_desk(folder: Path) -> ModuleType:
    """Return the module of the generated messages."""
    imports = folder / "imports.binpb"
    imports.write_bytes(installed_descriptors())
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--plugin=protoc-gen-py={BIN / 'protoc-gen-py'}"]
    roots = [f"--descriptor_set_in={imports}", f"-I{ROOT / 'proto'}", f"-I{Path(__file__).parent}"]
    subprocess.run([*command, *roots, f"--py_out={folder}", "desk.proto"], check=True)
    path = folder / "desk_pb.py"
    path.write_text(path.read_text().replace("from .busbar.", "from gen.busbar."))
    spec = importlib.util.spec_from_file_location("desk_pb", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def desk_platform(desk: Any) -> Platform:
    """Return a platform that serves the desk alone."""

    def say(field: Any, value: Any) -> Any:
        return desk.TalkResponse(frame=Oneof(field=field, value=value))

    async def talk(requests: Any, _call: Call) -> Any:
        room = (await anext(requests)).frame.value
        async for request in requests:
            field, value = request.frame.field, request.frame.value
            if field == "device_auth":
                if value.api_key == "busy":
                    raise Unavailable("storage is busy")
                if value.api_key != "plx_1":
                    raise Unauthenticated("Invalid API key")
                yield say("authenticated", desk.Authenticated(org_id=room.org_id))
            elif field == "reading":
                yield say("ota_progress", desk.Progress(percent_done=value.seq))
            elif field == "anything" and "as" in value.fields:
                value.fields["type"] = value.fields.pop("as")
                yield say("relayed", value)
            else:
                yield say("picture" if field == "picture" else "relayed", value)

    async def add(requests: Any, _call: Call) -> Any:
        return desk.Number(value=sum([number.value async for number in requests]))

    _annotate(talk, AsyncIterator[desk.TalkRequest], AsyncIterator[desk.TalkResponse])
    _annotate(add, AsyncIterator[desk.Number], desk.Number)
    service = next(iter(desk.desc().services))
    return Platform(bind(service, SimpleNamespace(talk=talk, add=add)), People())


def _annotate(handler: Callable[..., Any], request: Any, answer: Any) -> None:
    handler.__annotations__ = {"requests": request, "_call": Call, "return": answer}
