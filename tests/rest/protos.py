"""Services made from proto source within a test, for what the project's own protos do not use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

from protobuf import DescFile, DescService
from protobuf.wkt import FileDescriptorSet

from core.kernel.call import Call
from core.kernel.rpc import Rpc, bind

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "gen" / "descriptors.binpb"

HEADER = """
syntax = "proto3";
package testing.%s;
import "buf/validate/validate.proto";
import "busbar/api/v1/options.proto";
import "google/api/annotations.proto";
import "google/api/field_behavior.proto";
import "google/api/httpbody.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
"""
SERVICE = """
service Things {
  option (busbar.api.v1.surface) = SURFACE_%s;
  %s
}
"""
PUBLIC = "option (busbar.api.v1.access) = {level: LEVEL_PUBLIC};"


@cache
def compile_proto(source: str) -> DescFile:
    """Compile a source and return its descriptor."""
    # A file and a package of its own, since validators are kept by name.
    name = f"p{crc32(source.encode())}"
    with TemporaryDirectory() as folder:
        (Path(folder) / f"{name}.proto").write_text(HEADER % name + source)
        command = [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--descriptor_set_in={IMAGE}",
            f"-I{folder}",
            "--include_imports",
        ]
        command += [f"--descriptor_set_out={folder}/image", f"{name}.proto"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        registry = FileDescriptorSet.from_binary((Path(folder) / "image").read_bytes()).to_registry()
    file = registry.file(f"{name}.proto")
    assert file is not None
    return file


def service(messages: str, rpcs: str, surface: str = "MAKER") -> DescService:
    """Return the descriptor of a service; a line of `rpcs` is `Name(Request) returns (Answer) {http rule} | options`."""
    methods = "\n".join(_method(line) for line in rpcs.strip().splitlines())
    return compile_proto(messages + SERVICE % (surface, methods)).services[0]


def serve(desc: DescService, handler: Callable[[Any, Call], Any]) -> list[Rpc]:
    """Bind every rpc of a service to one function; for a stream it returns the list of messages."""
    methods = {_snake(m.name): _typed(handler, m.input.type, m.output.type, m.method_kind) for m in desc.methods}
    return bind(desc, type("Things", (), methods)())


def _method(line: str) -> str:
    signature, _, options = line.strip().partition("{")
    rule, _, more = options.partition(" | ")
    return f"rpc {signature} {{ option (google.api.http) = {{{rule}; {PUBLIC} {more} }}"


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _typed(handler: Callable[[Any, Call], Any], request: Any, answer: Any, kind: str) -> Any:
    async def unary(_self: object, request: Any, call: Call) -> Any:
        if kind == "client_streaming":
            request = [message async for message in request]
        return handler(request, call)

    async def stream(_self: object, request: Any, call: Call) -> AsyncIterator[Any]:
        for message in handler(request, call):
            yield message

    streams = kind == "server_streaming"
    method: Any = stream if streams else unary
    method.__annotations__ = {
        "request": AsyncIterator[request] if kind == "client_streaming" else request,
        "call": Call,
        "return": AsyncIterator[answer] if streams else answer,
    }
    return method
