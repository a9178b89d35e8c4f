"""The one way in: every call of every door runs through here.

Order: authenticate, rate limit, authorise, validate, idempotency, handler, error mapping. A door that reads its body late, as
REST does, calls `admit` first and `invoke` afterwards; a call that is already admitted to its rpc is not admitted twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Protocol

import structlog
from protobuf import Message

from core.kernel.call import Call, Ended, Principal, current_call
from core.kernel.errors import DomainError, Internal, PermissionDenied, Unauthenticated, Unavailable
from core.kernel.limits import Limiter
from core.kernel.rpc import Rpc
from core.kernel.validation import validate
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import Limit

BY_ADDRESS = Limit.Per.ADDRESS

log = structlog.get_logger("busbar.call")


class Authenticator(Protocol):
    """Tells who holds a credential."""

    def known(self, credential: str) -> Principal | None:
        """Return the caller from memory, without waiting; None when storage must be asked."""
        ...

    async def authenticate(self, credential: str) -> Principal | None:
        """Return the caller, or None for a credential that is unknown, expired or revoked."""
        ...

    def why_not(self, credential: str) -> Ended:
        """Return why `authenticate` has just refused a credential."""
        ...


class Placing(Protocol):
    """Tells where somebody acts whose credential belongs to no organisation."""

    async def in_org(self, principal: Principal, wish: str | None) -> Principal:
        """Return the caller as who they are in the organisation that the call is for.

        Raises:
            Unauthenticated: No organisation is named, or the user has no place in it.
        """
        ...


class IdempotencyStore(Protocol):
    """Keeps the answers of requests that may be sent again."""

    async def begin(self, owner: str, rpc: str, key: str, fingerprint: bytes) -> tuple[bytes, int | None] | None:
        """Claim a key; return the kept answer and its status when the same request was done before.

        Raises:
            Aborted: The key was used with another request, or its first request has not ended.
        """
        ...

    async def finish(self, owner: str, rpc: str, key: str, answer: bytes, status: int | None) -> None:
        """Keep the answer of a request."""
        ...

    async def abandon(self, owner: str, rpc: str, key: str) -> None:
        """Free the key of a request that was refused."""
        ...


class Observer(Protocol):
    """Watches calls, for metrics and logs."""

    def ended(self, rpc: Rpc, call: Call, code: str, seconds: float) -> None:
        """Note the end of a call."""
        ...


class Platform:
    """All rpcs of a server and the pipeline before them."""

    def __init__(
        self,
        rpcs: list[Rpc],
        authenticator: Authenticator,
        *,
        placing: Placing | None = None,
        local_mode: bool = False,
        limiter: Limiter | None = None,
        idempotency: IdempotencyStore | None = None,
        observers: tuple[Observer, ...] = (),
    ) -> None:
        self.rpcs = rpcs
        self.limiter = limiter or Limiter()
        self._authenticator = authenticator
        self._placing = placing
        self._local_mode = local_mode
        self._idempotency = idempotency
        self._observers = observers
        self.draining = False
        self.active = 0
        self._idle = asyncio.Event()

    async def drain(self) -> None:
        """Refuse new calls and wait until those under way have ended."""
        self.draining = True
        if self.active:
            await self._idle.wait()

    def _leave(self, rpc: Rpc, call: Call, code: str, started: float) -> None:
        self.active -= 1
        if self.draining and not self.active:
            self._idle.set()
        self._ended(rpc, call, code, started)

    async def admit(self, rpc: Rpc, call: Call) -> None:
        """Let a call in to an rpc before its request is read. A refusal is seen by the observers as the end of the call."""
        started = time.perf_counter()
        try:
            await self._admit(rpc, call)
        except DomainError as error:
            self._ended(rpc, call, error.code, started)
            raise

    def _ended(self, rpc: Rpc, call: Call, code: str, started: float) -> None:
        seconds = time.perf_counter() - started
        for observer in self._observers:
            observer.ended(rpc, call, code, seconds)

    async def _admit(self, rpc: Rpc, call: Call) -> None:
        """Let a call in to an rpc, or refuse it: credential, rate, scope and role. Reads nothing of the request."""
        current_call.set(call)
        if self.draining:
            raise _going_down()
        gate = rpc.gate
        if self._local_mode and gate.closed_locally:
            raise PermissionDenied("not available in local mode", reason=ErrorReason.LOCAL_MODE)
        default = None if rpc.limits else call.default_limit
        by_address = default is not None and default.per == BY_ADDRESS
        if by_address:
            # The address is known without a credential, so guesses at credentials count too.
            self._limit(rpc, call, None)
        principal = await self._holder(call) if call.credential else None
        if principal is not None and gate.kinds and principal.kind not in gate.kinds:
            principal = None
        if principal is None and not gate.public:
            raise self._unauthenticated(call)
        if self.limiter.enabled and not by_address:
            self._limit(rpc, call, principal)
        if principal is not None and not principal.org_id and not gate.public and not gate.personal:
            principal = await self._in_org(principal, call)
        call.principal = principal
        if principal is not None and not gate.public:
            authorise(rpc, principal)
        call.admitted = rpc

    async def identify(self, call: Call) -> Principal:
        """Return who calls, for a door that must know before it knows which rpc is meant.

        Raises:
            Unauthenticated: There is no credential, it does not count, or the door does not take its kind.
            Unavailable: The server is going down.
        """
        if self.draining:
            raise _going_down()
        principal = await self._holder(call)
        if principal is None:
            raise self._unauthenticated(call)
        return principal if principal.org_id else await self._in_org(principal, call)

    async def _in_org(self, principal: Principal, call: Call) -> Principal:
        if self._placing is None:
            raise Unauthenticated("no org id")
        return await self._placing.in_org(principal, call.org_wish)

    def _unauthenticated(self, call: Call) -> Unauthenticated:
        if not call.credential:
            return Unauthenticated("authentication required", reason=ErrorReason.CREDENTIAL_MISSING)
        return self._authenticator.why_not(call.credential).refusal("invalid or expired credential")

    async def _holder(self, call: Call) -> Principal | None:
        if not call.credential:
            return None
        principal = self._authenticator.known(call.credential) or await self._authenticator.authenticate(call.credential)
        if principal is None or (call.accepts is not None and principal.kind not in call.accepts):
            return None
        return principal

    def _limit(self, rpc: Rpc, call: Call, principal: Principal | None) -> None:
        # A limit that an rpc states is its own; one that the door brings is shared by all rpcs that state none.
        what, limits = rpc.name, rpc.gate.limits
        if not rpc.limits:
            what, limits = call.door, (call.default_limit,) if call.default_limit else ()
        for limit in limits:
            who = call.address if principal is None or limit.per == BY_ADDRESS else principal.credential_id
            self.count(what, limit, who)

    def count(self, what: str, limit: Limit, who: str) -> None:
        """Count one call of somebody against a limit. Raises ResourceExhausted."""
        self.limiter.check((limit.group or what, limit.per, who), limit.requests, limit.window_seconds)

    async def invoke(self, rpc: Rpc, request: Any, call: Call) -> Any:  # noqa: ANN401 - the message class differs by rpc
        """Run one call and return its answer, or the stream of its answers.

        `request` is a message, or an async iterator of messages where the client streams. Every refusal is a DomainError.
        """
        if rpc.server_streams:
            return self._streamed(rpc, request, call)
        started = time.perf_counter()
        code = "OK"
        self.active += 1
        try:
            if call.admitted is not rpc:
                await self._admit(rpc, call)
            if rpc.client_streams:
                return await rpc.handler(_validated(request), call)
            self._check(rpc, request, call)
            if call.idempotency_key and rpc.mutates and call.principal is not None and self._idempotency is not None:
                return await self._once(rpc, request, call, self._idempotency)
            return await rpc.handler(request, call)
        except DomainError as error:
            code = error.code
            raise
        except Exception as error:
            code = "INTERNAL"
            raise _defect(rpc, call, error) from error
        finally:
            self._leave(rpc, call, code, started)

    async def _streamed(self, rpc: Rpc, request: Any, call: Call) -> AsyncIterator[Message[Any]]:  # noqa: ANN401
        started = time.perf_counter()
        code = "OK"
        self.active += 1
        try:
            if call.admitted is not rpc:
                await self._admit(rpc, call)
            # Where both sides stream, a bad message needs an answer rather than the end of the stream: the service checks each.
            if not rpc.client_streams:
                self._check(rpc, request, call)
            # Closed here, so that the handler has cleaned up before anyone is told that the call has ended.
            async with aclosing(rpc.handler(request, call)) as answers:
                async for message in answers:
                    yield message
        except DomainError as error:
            code = error.code
            raise
        except Exception as error:
            code = "INTERNAL"
            raise _defect(rpc, call, error) from error
        finally:
            for callback in call.on_end:
                callback()
            self._leave(rpc, call, code, started)

    def _check(self, rpc: Rpc, request: Message[Any], call: Call) -> None:
        # A raw body is checked by its service in one pass of its own; the message is empty then.
        if call.raw is None:
            validate(request)
        for limit in rpc.gate.field_limits:
            org_id = "" if call.principal is None else call.principal.org_id
            key = (limit.group or rpc.name, getattr(request, limit.field), org_id)
            self.limiter.check(key, limit.requests, limit.window_seconds)

    async def _once(self, rpc: Rpc, request: Message[Any], call: Call, store: IdempotencyStore) -> Message[Any]:
        """Run a request at most once for its idempotency key."""
        owner = call.caller.user_id or call.caller.credential_id
        key = call.idempotency_key or ""
        # With the organisation, since some credentials name one at each call.
        fingerprint = hashlib.sha256(call.caller.org_id.encode() + request.to_binary() + (call.raw or b"")).digest()
        kept = await store.begin(owner, rpc.name, key, fingerprint)
        if kept is not None:
            call.status = kept[1]
            return rpc.response.from_binary(kept[0])
        try:
            answer = await rpc.handler(request, call)
        except DomainError:
            await store.abandon(owner, rpc.name, key)
            raise
        await store.finish(owner, rpc.name, key, _without_secrets(rpc, answer), call.status)
        return answer


def authorise(rpc: Rpc, principal: Principal) -> None:
    """Check that a caller may call an rpc that is not public: reach, scope and role.

    Raises:
        PermissionDenied: They may not.
    """
    gate = rpc.gate
    if gate.personal and principal.user_id is None:
        raise PermissionDenied("only a user can do this")
    if principal.read_only or principal.tools is not None:
        _require_reach(rpc, principal)
    if gate.scope and not principal.may(gate.scope):
        raise PermissionDenied(f"insufficient scope: {gate.scope} required", reason=ErrorReason.SCOPE_MISSING, scope=gate.scope)
    if gate.roles and principal.role not in gate.roles:
        raise PermissionDenied(f"{gate.roles[0]} role required", role=gate.roles[0])


async def _validated(messages: AsyncIterator[Message[Any]]) -> AsyncIterator[Message[Any]]:
    async for message in messages:
        validate(message)
        yield message


def _without_secrets(rpc: Rpc, answer: Message[Any]) -> bytes:
    """Return an answer fit to be kept: what is shown once is not in it."""
    if not rpc.secrets:
        return answer.to_binary()
    copy = rpc.response.from_binary(answer.to_binary())
    for name in rpc.secrets:
        copy.clear_field(name)
    return copy.to_binary()


def _require_reach(rpc: Rpc, principal: Principal) -> None:
    """Hold a credential to what its owner narrowed it to. A socket is let in: what is written on it needs its own scope."""
    if principal.read_only and rpc.mutates and rpc.socket is None:
        raise PermissionDenied("this key is read-only", reason=ErrorReason.SCOPE_MISSING)
    if principal.tools is not None and (rpc.tool is None or rpc.tool.name not in principal.tools):
        what = rpc.name if rpc.tool is None else rpc.tool.name
        raise PermissionDenied(f"this key may not call {what}", reason=ErrorReason.SCOPE_MISSING)


def _going_down() -> Unavailable:
    return Unavailable("the server is going down", reason=ErrorReason.SHUTTING_DOWN, retry_after=1)


def _defect(rpc: Rpc, call: Call, error: Exception) -> Internal:
    log.error("unexpected failure", rpc=rpc.name, request_id=call.request_id, door=call.door, exc_info=error)
    return Internal("internal error", request_id=call.request_id)
