"""One client for every door, so that a case can be run over each of them.

`await door.call("PinService.ReadPin", board_id=..., pin_index=3)` answers with the message of the rpc, whatever the door; a
refusal is `Refused` with the canonical code. Everything is made from the descriptors: a new rpc needs nothing here. Where areas
have services of one name, that of another area than the maker's is called with its area: `lab.AuthService.Login`.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import grpc
import httpx
from protobuf import (
    DescField,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescMessage,
    DescMethod,
    DescService,
    Message,
    message_from_json_value,
)

import gen.busbar
from adapters.rest.binding import decode
from adapters.rest.codec import json_kind, unwrapped
from core.kernel.rpc import PATH_VARIABLE, Rpc, verb_and_path
from gen.busbar.api.v1.options_pb import CredentialKind, Surface, ext_header
from gen.google.api.httpbody_pb import HttpBody

STATUS_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "CONFLICT",
    412: "CONFLICT",
    413: "RESOURCE_EXHAUSTED",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP: reading the system's authorities for each would take longer than most tests."""
CONFLICTS = {"ALREADY_EXISTS", "FAILED_PRECONDITION", "ABORTED"}


@dataclass
class Refused(Exception):
    """A call was refused. Conflicts of every kind are CONFLICT, which is all that REST tells."""

    code: str
    message: str


def _to_binary(message: Message[Any]) -> bytes:
    return message.to_binary()


@cache
def shared_names() -> frozenset[str]:
    """Return the names of services that several areas have."""
    count = Counter(service.name for service in services())
    return frozenset(name for name, number in count.items() if number > 1)


def services() -> Iterator[DescService]:
    """Yield every service of the project."""
    for module in pkgutil.walk_packages(gen.busbar.__path__, "gen.busbar."):
        if module.name.endswith("_pb"):
            yield from importlib.import_module(module.name).desc().services


@cache
def name_of(method: DescMethod) -> str:
    """Return the shortest name of an rpc that only it has; the maker's area goes without saying."""
    service = method.parent
    area = service.type_name.split(".")[1]
    prefix = f"{area}." if service.name in shared_names() and area != "maker" else ""
    return f"{prefix}{service.name}.{method.name}"


def names_of(rpc: Rpc) -> tuple[str, str]:
    """Return the names by which an rpc is called: the shortest, and the one with its area."""
    area = rpc.service.type_name.split(".")[1]
    return name_of(rpc.method), f"{area}.{rpc.service.name}.{rpc.method.name}"


class Door:
    """Calls rpcs through one door with one credential."""

    def __init__(self, rpcs: list[Rpc], credential: str | None) -> None:
        self._rpcs = {name: rpc for rpc in rpcs for name in names_of(rpc)}
        self.credential = credential

    def rpc(self, name: str) -> Rpc:
        """Return the record of `Service.Method`, or of `area.Service.Method`."""
        return self._rpcs[name]

    async def call(self, name: str, /, **fields: Any) -> Any:
        """Call an rpc with the JSON values of its fields, by proto name."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close what the door holds open."""


class GrpcClient(Door):
    """Calls over gRPC."""

    def __init__(self, rpcs: list[Rpc], credential: str | None, address: str) -> None:
        super().__init__(rpcs, credential)
        self.channel = grpc.aio.insecure_channel(address)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The credential as metadata."""
        return (("authorization", f"Bearer {self.credential}"),) if self.credential else ()

    async def call(self, name: str, /, **fields: Any) -> Any:
        """Call a unary rpc."""
        rpc = self.rpc(name)
        method = self.channel.unary_unary(
            f"/{rpc.name}",
            request_serializer=_to_binary,
            response_deserializer=rpc.response.from_binary,
        )
        try:
            return await method(_request(rpc, fields), metadata=self.metadata, timeout=60)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            raise Refused("CONFLICT" if code in CONFLICTS else code, error.details() or "") from None

    async def stream(self, name: str, /, **fields: Any) -> AsyncIterator[Any]:
        """Call a server-streaming rpc."""
        rpc = self.rpc(name)
        method = self.channel.unary_stream(
            f"/{rpc.name}",
            request_serializer=_to_binary,
            response_deserializer=rpc.response.from_binary,
        )
        async for message in method(_request(rpc, fields), metadata=self.metadata):
            yield message

    async def close(self) -> None:
        """Close the channel."""
        await self.channel.close()


class RestClient(Door):
    """Calls over REST, by the first HTTP rule of an rpc."""

    def __init__(self, rpcs: list[Rpc], credential: str | None, url: str) -> None:
        super().__init__(rpcs, credential)
        self.http = httpx.AsyncClient(base_url=url, timeout=60, verify=NO_TLS)

    @property
    def headers(self) -> dict[str, str]:
        """The credential as a header."""
        return {"Authorization": f"Bearer {self.credential}"} if self.credential else {}

    async def call(self, name: str, /, **fields: Any) -> Any:
        """Call an rpc that has an HTTP rule."""
        rpc = self.rpc(name)
        answer = await self.send(rpc, fields)
        if answer.status_code >= 400:
            raise Refused(STATUS_CODES.get(answer.status_code, str(answer.status_code)), _sentence(answer))
        if rpc.response is HttpBody:
            return HttpBody(content_type=answer.headers["content-type"], data=answer.content)
        if rpc.rest.empty or rpc.rest.text:
            return decode(rpc.response, {rpc.rest.text: answer.text} if rpc.rest.text else {})
        part = rpc.http[0].response_body
        return decode(rpc.response, wrap(rpc.response.desc(), {part: answer.json()} if part else answer.json()))

    async def send(self, rpc: Rpc, fields: dict[str, Any]) -> httpx.Response:
        """Send the request that an HTTP rule makes of some fields."""
        rule = rpc.http[0]
        verb, template = verb_and_path(rule)
        left = dict(fields)
        path = PATH_VARIABLE.sub(lambda match: str(left.pop(match[1], "_")), template)
        named = {f.name: f.proto.options[ext_header] for f in rpc.request.desc().fields if f.proto.options}
        headers = self.headers | {header: str(left.pop(name)) for name, header in named.items() if header and name in left}
        spelled = {self._spelling(rpc, key): value for key, value in left.items()}
        if rule.body == "*":
            return await self.http.request(verb, path, json=spelled, headers=headers)
        if rule.body:
            body = spelled.pop(self._spelling(rpc, rule.body), "")
            content = body if isinstance(body, str | bytes) else json.dumps(body)
            return await self.http.request(verb, path, content=content, params=spelled, headers=headers)
        return await self.http.request(verb, path, params=spelled, headers=headers)

    def _spelling(self, rpc: Rpc, name: str) -> str:
        if rpc.surface in (Surface.TELEMETRY, Surface.SYSTEM, Surface.LAB):
            return name
        return next((f.json_name for f in rpc.request.desc().fields if f.name == name), name)

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()


class McpClient(RestClient):
    """Calls tools over MCP, by hand-written JSON-RPC of the legacy era."""

    async def call(self, name: str, /, **fields: Any) -> Any:
        """Call the tool of an rpc."""
        rpc = self.rpc(name)
        if rpc.tool is None:
            raise LookupError(f"{name} is no tool")
        spelled = {field.name: field.json_name for field in rpc.request.desc().fields}
        arguments = {rpc.tool.arguments.get(key) or spelled.get(key, key): value for key, value in fields.items()}
        result = await self.method("tools/call", {"name": rpc.tool.name, "arguments": arguments})
        if result.get("isError"):
            raise Refused("TOOL_ERROR", result["content"][0]["text"])
        return decode(rpc.response, wrap(rpc.response.desc(), result["structuredContent"]))

    async def method(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send one JSON-RPC request and return its result."""
        answer = await self.http.post(
            "/mcp",
            json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}},
            headers={**self.headers, "Accept": "application/json, text/event-stream"},
        )
        body = answer.json()
        if "result" not in body:
            error = body.get("error")
            message = error if isinstance(error, str) else error["message"]
            raise Refused(STATUS_CODES.get(answer.status_code, "JSON_RPC"), message)
        return body["result"]


def _sentence(answer: httpx.Response) -> str:
    """Return what a refusal says, in whatever dialect."""
    if not answer.headers["content-type"].startswith("application/json"):
        return answer.text.strip()
    body = answer.json()
    return str(next(body[name] for name in ("message", "error", "detail", "msg") if body.get(name)))


def wrap(message: DescMessage, value: Any) -> Any:
    """Return the JSON value of a message with every value that stands for a message put into it again."""
    if value is None:
        return None
    if (only := unwrapped(message)) is not None:
        return {only.json_name: _wrap_field(only, value)}
    if message.type_name.startswith("google.") or not isinstance(value, dict):
        return value
    fields = {name: field for field in message.fields for name in (field.name, field.json_name)}
    members: dict[str, Any] = value
    return {name: _wrap_field(fields[name], member) if name in fields else member for name, member in members.items()}


def _wrap_field(field: DescField, value: Any) -> Any:
    kind = field.value
    if value is None:
        return None
    if isinstance(kind, DescFieldValueMessage):
        return wrap(kind.message, value)
    if isinstance(kind, DescFieldValueList) and isinstance(kind.element, DescMessage):
        return [wrap(kind.element, item) for item in value]
    if isinstance(kind, DescFieldValueMap) and isinstance(kind.value, DescMessage):
        return {key: wrap(kind.value, item) for key, item in value.items()}
    return value


def _request(rpc: Rpc, fields: dict[str, Any]) -> Message[Any]:
    """Return the request of some fields; what is no text becomes it where the message holds JSON text."""
    texts = {field.name for field in rpc.request.desc().fields if json_kind(field)}
    plain = {n: json.dumps(value) if n in texts and not isinstance(value, str) else value for n, value in fields.items()}
    return message_from_json_value(rpc.request, plain)


def natural_kind(rpc: Rpc) -> CredentialKind:
    """Return the kind of credential with which clients of an rpc's surface usually come."""
    kinds = rpc.access.kinds or rpc.rest.credentials
    if kinds:
        return kinds[0]
    return CredentialKind.TELEMETRY_KEY if rpc.surface == Surface.TELEMETRY else CredentialKind.SESSION


def camel(name: str) -> str:
    """Return a proto name as JSON spells it."""
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)


def as_dict(message: Message[Any]) -> dict[str, Any]:
    """Return a message as the JSON object of gRPC tools."""
    return json.loads(message.to_json())
