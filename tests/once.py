"""What descriptors say is the same for every server of a run, so it is read for the first one only.

A test of the whole server starts one, and two thirds of that would be reading what the last one read. Servers in processes of
their own read for themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from protobuf import DescService

import adapters.rest.app
import core.app
from adapters.mcp.tools import AgentTool
from adapters.rest.answers import Codec
from adapters.rest.binding import Binding
from adapters.rest.dialects import Dialect
from core.kernel.rpc import Rpc, bind
from gen.busbar.api.v1.options_pb import Tool
from gen.google.api.http_pb import HttpRule

_bound: dict[tuple[DescService, type], list[Rpc]] = {}
_make_tool_anew = AgentTool.__init__
_made: dict[tuple[object, ...], tuple[object, ...]] = {}


def _bind(service: DescService, implementation: object) -> list[Rpc]:
    """Give what was bound before the handlers of another object."""
    kind = type(implementation)
    if (service, kind) not in _bound:
        # Without the object, which has a whole server behind it.
        rpcs = [replace(rpc, handler=getattr(kind, rpc.handler.__name__)) for rpc in bind(service, implementation)]
        _bound[service, kind] = rpcs
    return [replace(rpc, handler=getattr(implementation, rpc.handler.__name__)) for rpc in _bound[service, kind]]


def _once(make: Callable[[], Any], *what: object, **more: object) -> Any:
    """Return what was made of the same objects before; they are kept, so that their ids stay theirs."""
    key = (*map(id, what), *more.values())
    if key not in _made:
        _made[key] = (make(), *what)
    return _made[key][0]


def _binding(rpc: Rpc, rule: HttpRule, *, lenient: bool = False) -> Binding:
    return _once(lambda: Binding(rpc, rule, lenient=lenient), Binding, rpc.method, rpc.rest, rule, lenient=lenient)


def _codec(rpc: Rpc, rule: HttpRule, dialect: Dialect) -> Codec:
    return _once(lambda: Codec(rpc, rule, dialect), Codec, rpc.method, rpc.rest, rule, dialect)


def _make_tool(self: AgentTool, rpc: Rpc, tool: Tool) -> None:
    def make() -> dict[str, Any]:
        made = AgentTool.__new__(AgentTool)
        _make_tool_anew(made, replace(rpc, handler=print), tool)
        # Made at first need otherwise, by each server for itself.
        _ = made.listing
        return vars(made)

    vars(self).update(_once(make, AgentTool, rpc.method, tool), rpc=rpc)


@contextmanager
def reading_once() -> Generator[None]:
    """Let servers share what they read until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core.app, "bind", _bind)
        patch.setattr(adapters.rest.app, "Binding", _binding)
        patch.setattr(adapters.rest.app, "Codec", _codec)
        patch.setattr(AgentTool, "__init__", _make_tool)
        yield
