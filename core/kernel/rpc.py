"""From descriptors to records: what each rpc is, who may call it, and which method serves it."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast, get_args, get_origin, get_type_hints

from protobuf import DescFieldValueList, DescFieldValueMessage, DescMessage, DescMethod, DescService, Message

from core.kernel.call import Call
from gen.busbar.api.v1.options_pb import (
    Access,
    CredentialKind,
    Limit,
    Rest,
    Socket,
    Surface,
    Tool,
    ext_access,
    ext_limit,
    ext_rest,
    ext_secret,
    ext_socket,
    ext_surface,
    ext_tool,
)
from gen.google.api.annotations_pb import ext_http
from gen.google.api.http_pb import HttpRule

PATH_VARIABLE = re.compile(r"\{([a-zA-Z0-9_.]+)(?:=[^}]*)?\}")

ROLES = {Access.Level.OPERATOR: ("operator", "admin"), Access.Level.ADMIN: ("admin",)}
"""Roles that reach a level, the least of them first; every role reaches the other levels."""


class BindingError(TypeError):
    """The proto and the code do not agree. Stops the server at start, naming the rpc."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What is asked of every caller of an rpc: its options `access` and `limit`, read once, since messages are slow to ask.

    Attributes:
        public: Whether anybody may call.
        personal: Whether the caller must be a user, of whatever organisation.
        closed_locally: Whether nobody may call while the server believes everybody.
        roles: Roles that may call, the least of them first; empty for all.
        scope: Scope that the credential must hold; empty for none.
        kinds: Kinds of credentials that count; empty for all.
        limits: Limits by caller or address.
        field_limits: Limits by the value of a field.
    """

    public: bool
    personal: bool
    closed_locally: bool
    roles: tuple[str, ...]
    scope: str
    kinds: frozenset[CredentialKind]
    limits: tuple[Limit, ...]
    field_limits: tuple[Limit, ...]

    @classmethod
    def of(cls, access: Access, limits: tuple[Limit, ...]) -> Gate:
        """Return the gate of an rpc with these options."""
        by_field = tuple(limit for limit in limits if limit.per == Limit.Per.FIELD)
        return cls(
            public=access.level == Access.Level.PUBLIC,
            personal=access.level == Access.Level.USER,
            closed_locally=access.closed_locally,
            roles=ROLES.get(access.level, ()),
            scope=access.scope,
            kinds=frozenset(access.kinds),
            limits=tuple(limit for limit in limits if limit not in by_field),
            field_limits=by_field,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Rpc:
    """One rpc with its handler and its options.

    Attributes:
        name: Full name, `busbar.maker.v1.PinService/ReadPin`.
        surface: House style of its service.
        request: Class of the request, of one message where the client streams.
        response: Class of the answer, of one message where the server streams.
        handler: Bound method that serves it.
        client_streams: Whether the caller sends a stream.
        server_streams: Whether the answer is a stream.
        gate: What is asked of every caller.
        http: HTTP rules, the main one first; empty when it has no plain HTTP form.
        mutates: Whether it may change anything: no read-only tool, not bound to GET only, and not open to a scope for reading
            unless it is a socket, where what is written needs a scope of its own.
        secrets: Top-level fields of the answer that are shown once.
    """

    name: str
    service: DescService
    method: DescMethod
    surface: Surface
    request: type[Message[Any]]
    response: type[Message[Any]]
    handler: Callable[..., Any]
    client_streams: bool
    server_streams: bool
    access: Access
    rest: Rest
    tool: Tool | None
    limits: tuple[Limit, ...]
    socket: Socket | None
    http: tuple[HttpRule, ...]
    mutates: bool
    secrets: tuple[str, ...]
    gate: Gate = field(init=False)

    def __post_init__(self) -> None:
        """Read what every caller is asked."""
        object.__setattr__(self, "gate", Gate.of(self.access, self.limits))


def bind(service: DescService, implementation: object) -> list[Rpc]:
    """Bind a service to a plain object.

    Raises:
        BindingError: An rpc lacks a handler, an annotation differs from the proto, an option is missing, or a path variable
            names no field.
    """
    return [_bind_method(service, method, implementation) for method in service.methods]


def _bind_method(service: DescService, method: DescMethod, implementation: object) -> Rpc:
    name = f"{service.type_name}/{method.name}"
    handler = getattr(implementation, _snake(method.name), None)
    if handler is None:
        raise BindingError(f"{type(implementation).__name__} lacks {_snake(method.name)}, the handler of {name}")
    client_streams = method.method_kind in ("client_streaming", "bidi_streaming")
    server_streams = method.method_kind in ("server_streaming", "bidi_streaming")
    options = method.proto.options
    access = options[ext_access] if options and ext_access in options else None
    surface = service.proto.options[ext_surface] if service.proto.options else Surface.UNSPECIFIED
    if access is None:
        raise BindingError(f"{name} does not say who may call it: give it the option access")
    if surface == Surface.UNSPECIFIED:
        raise BindingError(f"{service.type_name} does not name its surface")
    http = _http_rules(options[ext_http] if options and ext_http in options else None)
    _check_fields(name, method, http)
    tool = options[ext_tool] if options and ext_tool in options else None
    socket = options[ext_socket] if options and ext_socket in options else None
    hints = get_type_hints(handler)
    return Rpc(
        name=name,
        service=service,
        method=method,
        surface=surface,
        request=_check_type(name, handler, hints, "request", method.input, streams=client_streams),
        response=_check_type(name, handler, hints, "return", method.output, streams=server_streams),
        handler=handler,
        client_streams=client_streams,
        server_streams=server_streams,
        access=access,
        rest=options[ext_rest] if options and ext_rest in options else Rest(),
        tool=tool,
        limits=tuple(options[ext_limit]) if options and ext_limit in options else (),
        socket=socket,
        http=http,
        mutates=_mutates(access, http, tool, socket),
        secrets=tuple(f.local_name for f in method.output.fields if f.proto.options and f.proto.options[ext_secret]),
    )


def _mutates(access: Access, http: tuple[HttpRule, ...], tool: Tool | None, socket: Socket | None) -> bool:
    """Whether an rpc may change anything, as far as its options tell."""
    if tool is not None and tool.read_only:
        return False
    if access.scope.rpartition(":")[2] == "read" and socket is None:
        return False
    return not http or any(verb_and_path(rule)[0] != "GET" for rule in http)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _check_type(
    name: str, handler: Callable[..., Any], hints: dict[str, Any], part: str, expected: DescMessage, *, streams: bool
) -> type[Message[Any]]:
    """Return the message class that a handler's annotation names, after checking it against the proto."""
    if part == "request":
        parameters = list(inspect.signature(handler).parameters)
        if len(parameters) != 2 or hints.get(parameters[1]) is not Call:  # noqa: PLR2004 - the request and the call
            raise BindingError(f"the handler of {name} must take a request and a Call")
        annotation = hints.get(parameters[0])
    else:
        annotation = hints.get("return")
    if streams:
        if get_origin(annotation) is not AsyncIterator:
            raise BindingError(f"the handler of {name} must have AsyncIterator[{expected.name}] as {part}")
        annotation = get_args(annotation)[0]
    if not (isinstance(annotation, type) and issubclass(annotation, Message)):
        raise BindingError(f"the handler of {name} has no message as {part}")
    if annotation.desc().type_name != expected.type_name:
        raise BindingError(f"the handler of {name} has {annotation.__name__} as {part}, the proto says {expected.type_name}")
    return cast("type[Message[Any]]", annotation)


def _http_rules(rule: HttpRule | None) -> tuple[HttpRule, ...]:
    return () if rule is None else (rule, *rule.additional_bindings)


def verb_and_path(rule: HttpRule) -> tuple[str, str]:
    """Return the HTTP method, in capitals, and the path template of a rule."""
    pattern = rule.pattern
    if pattern is None:
        raise BindingError("an HTTP rule has no pattern")
    if pattern.field == "custom":
        return pattern.value.kind, pattern.value.path
    return pattern.field.upper(), str(pattern.value)


def path_variables(path: str) -> list[str]:
    """Return the field paths that a path template names, in order."""
    return PATH_VARIABLE.findall(path)


def _check_fields(name: str, method: DescMethod, rules: tuple[HttpRule, ...]) -> None:
    """Check that the fields which HTTP rules name are there."""
    for rule in rules:
        for variable in path_variables(verb_and_path(rule)[1]):
            if not _has_field(method.input, variable.split(".")):
                raise BindingError(f"the path of {name} names {variable}, which {method.input.type_name} does not have")
        if rule.body not in ("", "*") and not _has_field(method.input, [rule.body]):
            raise BindingError(f"the body of {name} is {rule.body}, which {method.input.type_name} does not have")
        if rule.response_body and not _has_field(method.output, [rule.response_body]):
            raise BindingError(f"the answer of {name} is {rule.response_body}, which {method.output.type_name} does not have")


def _has_field(message: DescMessage, path: list[str]) -> bool:
    field = next((f for f in message.fields if f.name == path[0]), None)
    if field is None:
        return False
    if len(path) == 1:
        return True
    value = field.value
    if isinstance(value, DescFieldValueList) or not isinstance(value, DescFieldValueMessage):
        return False
    return _has_field(value.message, path[1:])
