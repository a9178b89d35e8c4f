"""Rpcs as tools: which ones a caller sees, what they look like, and what a call of one answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, cast

import orjson
import structlog
from protobuf import DescMessage

from adapters.mcp.arguments import Arguments
from adapters.mcp.schemas import Paths, SchemaWriter, members, message_of
from adapters.rest import opaque
from adapters.rest.codec import Style, encoder
from adapters.rest.descriptors import comment
from core.kernel.call import Call, Principal
from core.kernel.errors import DomainError
from core.kernel.pipeline import Platform
from core.kernel.rpc import ROLES, BindingError, Rpc
from gen.busbar.api.v1.options_pb import Access, Tool

log = structlog.get_logger("busbar.mcp")

ANSWERS = Style()
"""Answers read the same whatever the surface: lowerCamelCase, and null where something is absent."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call of a tool came to.

    Attributes:
        text: The answer as JSON, or the sentence of a refusal.
        structured: The answer; None for a refusal.
        code: Canonical status code.
    """

    text: str
    structured: dict[str, Any] | None = None
    code: str = "OK"


class AgentTool:
    """One rpc as agents see it."""

    def __init__(self, rpc: Rpc, tool: Tool) -> None:
        if rpc.client_streams or rpc.server_streams:
            raise BindingError(f"{rpc.name} streams, so it cannot be a tool")
        message = rpc.response.desc()
        self.rpc = rpc
        self.name = tool.name
        self.groups = frozenset({tool.toolset, rpc.surface.name.lower()})
        self.arguments = Arguments(rpc, tool)
        self._paths = _tree(rpc, message, tool.output)
        self._encode = encoder(message, ANSWERS)
        self._holds_text = opaque.concerns(message)
        self._tool = tool

    @cached_property
    def listing(self) -> dict[str, Any]:
        """The tool as a list of tools shows it; made when an agent first asks, since servers start without agents."""
        message = self.rpc.response.desc()
        answer = members(message, self._paths, answers=True)
        schema = SchemaWriter(answers=True).object(message, answer, self._paths)
        return _listing(self.rpc, self._tool, self.arguments, schema)

    def permits(self, principal: Principal) -> bool:
        """Whether a caller may call the tool, as far as the credential tells."""
        access = self.rpc.access
        if access.level == Access.Level.PUBLIC:
            return True
        if (access.kinds and principal.kind not in access.kinds) or (access.scope and not principal.may(access.scope)):
            return False
        if (principal.read_only and self.rpc.mutates) or (principal.tools is not None and self.name not in principal.tools):
            return False
        return principal.role in ROLES.get(access.level, (principal.role,))

    async def call(self, platform: Platform, values: Mapping[str, Any], call: Call) -> Outcome:
        """Call the tool. Every refusal is an outcome, never an exception."""
        try:
            # Who lacks the scope learns that first, before anything about arguments.
            await platform.admit(self.rpc, call)
            answer = await platform.invoke(self.rpc, self.arguments.decode(values), call)
            shown = _narrowed(self._encode(answer), self._paths)
            text = orjson.dumps(shown)
            return Outcome(text.decode(), orjson.loads(text) if self._holds_text else shown)
        except DomainError as error:
            return Outcome(self.arguments.explain(error), code=error.code)
        except Exception:
            # The edge of the door: a defect in reading or writing JSON must not tell its caller about the code.
            log.exception("unexpected failure", tool=self.name, request_id=call.request_id)
            return Outcome("internal error", code="INTERNAL")


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The tools that one caller chose and may call.

    Attributes:
        chosen: Every tool of the toolsets that the caller chose, by name.
        listed: Those of them that the credential permits, by name and in that order.
    """

    chosen: Mapping[str, AgentTool] = field(default_factory=dict[str, AgentTool])
    listed: tuple[AgentTool, ...] = ()


class Toolbox:
    """All tools of a platform."""

    def __init__(self, platform: Platform) -> None:
        found = [AgentTool(rpc, rpc.tool) for rpc in platform.rpcs if rpc.tool is not None]
        self._tools = {tool.name: tool for tool in sorted(found, key=lambda tool: tool.name)}
        if len(self._tools) < len(found):
            twice = next(tool.name for tool in found if self._tools[tool.name] is not tool)
            raise BindingError(f"two rpcs are the tool {twice}")
        # Few combinations of scopes and toolsets are in use at a time, and making a list costs more than the rest of a request.
        self._views = lru_cache(maxsize=256)(self._view)

    def prepare(self) -> None:
        """Make what lists of tools show, which the first one would wait for."""
        for tool in self._tools.values():
            _ = tool.listing

    def view(self, principal: Principal, toolsets: frozenset[str]) -> View:
        """Return what a caller sees.

        Args:
            principal: Who calls.
            toolsets: Names of toolsets or surfaces; none chooses everything. Unknown names choose nothing.
        """
        allowed = tuple(name for name, tool in self._tools.items() if tool.permits(principal))
        return self._views(allowed, toolsets)

    def _view(self, allowed: tuple[str, ...], toolsets: frozenset[str]) -> View:
        chosen = {name: tool for name, tool in self._tools.items() if not toolsets or toolsets & tool.groups}
        return View(chosen, tuple(tool for name, tool in chosen.items() if name in allowed))


def _listing(rpc: Rpc, tool: Tool, arguments: Arguments, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": tool.name,
        "title": tool.title or tool.name,
        "description": comment(f"{rpc.service.type_name}.{rpc.method.name}"),
        "inputSchema": arguments.schema,
        "outputSchema": answer,
        "annotations": {
            "title": tool.title or tool.name,
            "readOnlyHint": tool.read_only,
            "destructiveHint": tool.destructive,
            "idempotentHint": tool.idempotent or tool.read_only,
            "openWorldHint": False,
        },
    }


def _tree(rpc: Rpc, message: DescMessage, paths: list[str]) -> Paths:
    """Return paths as a tree, having checked that each leads to a member."""
    tree: dict[str, Any] = {}
    for path in paths:
        branch, below = tree, message
        for name in path.split("."):
            member = None if below is None else next((f for f in below.fields if f.json_name == name), None)
            if member is None:
                raise BindingError(f"the tool of {rpc.name} shows {path}, which {message.type_name} does not have")
            branch = branch.setdefault(name, {})
            below = message_of(member)
    return tree


def _narrowed(value: Any, paths: Paths) -> Any:  # noqa: ANN401 - any JSON
    if not paths or value is None:
        return value
    if isinstance(value, dict):
        shown = cast("dict[str, Any]", value)
        return {name: _narrowed(member, paths[name]) for name, member in shown.items() if name in paths}
    return [_narrowed(entry, paths) for entry in value]
