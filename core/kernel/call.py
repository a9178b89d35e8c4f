"""One call on its way through the pipeline: who calls, through which door, and what the answer needs besides its message."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from core.kernel.errors import Unauthenticated
from core.kernel.ids import new_request_id
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind, Limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.kernel.rpc import Rpc

Door = Literal["local", "grpc", "rest", "mcp", "live"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, as their credential proves.

    Attributes:
        credential_id: Id of the credential.
        kind: Kind of the credential.
        org_id: Organisation to which every row that the caller may see belongs; empty where the call must say it and has not.
        user_id: User for whom the credential acts; None for credentials of the organisation or of a device.
        scopes: What the credential may do; `*` is everything.
        role: Role of the user in the organisation: viewer, operator or admin.
        owner: Whether the user is an administrator who owns the organisation.
        bound_to: Id of the board or source to which the credential is bound.
        board_ids: Boards that the credential may touch; None for all.
        expires_at_us: When the credential ends; None for never.
        read_only: Whether it may change nothing, whatever its scopes say.
        tools: Names of the tools that it may call, and nothing else on any door; None for no such limit.
    """

    credential_id: str
    kind: CredentialKind
    org_id: str
    user_id: str | None = None
    scopes: frozenset[str] = frozenset({"*"})
    role: str = "admin"
    owner: bool = False
    bound_to: str | None = None
    board_ids: frozenset[str] | None = None
    expires_at_us: int | None = None
    read_only: bool = False
    tools: frozenset[str] | None = None

    def may(self, scope: str) -> bool:
        """Whether the credential holds a scope; a read-only one holds none but those for reading."""
        if self.read_only and scope.rpartition(":")[2] != "read":
            return False
        return scope in self.scopes or "*" in self.scopes


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a credential does not count.

    Attributes:
        how: `unknown`, `expired`, `revoked`, or `ownerless` when its user is gone.
        kind: Kind of the credential; None where nothing tells.
    """

    how: str
    kind: CredentialKind | None

    def refusal(self, message: str) -> Unauthenticated:
        """Return the refusal of the credential, which says why to those who look."""
        return Unauthenticated(message, ended=self.how, kind="" if self.kind is None else self.kind.name.lower())


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie to set; one with an empty value is cleared."""

    name: str
    value: str
    max_age: int


@dataclass(slots=True)
class Call:
    """One call.

    A door fills the upper half from its transport. A service may write the lower half; a door without such a thing ignores it.

    Attributes:
        credential: The secret as it came, without any scheme word.
        credential_source: Where it was found: `header`, `cookie`, `query` or `frame`.
        org_wish: Organisation that the call is for, where the credential leaves that open; empty when the caller left it open
            too, None when the door was told nothing.
        door: Which door the call came in by.
        address: Network address of the caller.
        accepts: Kinds of credentials that the door takes for this call; None for all.
        default_limit: Rate limit of the door for an rpc that states none.
        request_id: Names the call in logs and answers.
        idempotency_key: Names a request that may be sent again.
        if_match: Revision that the caller wants to change.
        base: Tells the address under which the caller reached the server; few ask, so it is worked out only then.
        raw: Body as it came, for an rpc with `raw_body`.
        client_id: Names a live connection.
        sent_cookie: Returns the value of a cookie that came along, for rpcs that know a browser by more than a credential.
        sent_header: Returns the value of a header that came along, for what is asked of few calls.
        foreign_origin: Origin of a page of another site that made the call; None for own pages and for whatever is no page.
        principal: Who calls, once the pipeline knows.
        admitted: The rpc to which the call was admitted.
        status: Success status to answer with instead of the declared one.
        headers: Further headers of the answer.
        cookies: Cookies to set.
        location: Address to redirect to.
        on_end: What to do when a streaming call has ended, however it ended.
    """

    credential: str | None = None
    credential_source: str = "header"
    org_wish: str | None = None
    door: Door = "local"
    address: str = ""
    accepts: frozenset[CredentialKind] | None = None
    default_limit: Limit | None = None
    request_id: str = field(default_factory=new_request_id)
    idempotency_key: str | None = None
    if_match: str | None = None
    base: Callable[[], str] = str
    raw: bytes | None = None
    client_id: str | None = None
    sent_cookie: Callable[[str], str | None] = lambda _name: None
    sent_header: Callable[[str], str | None] = lambda _name: None
    foreign_origin: str | None = None

    principal: Principal | None = None
    admitted: Rpc | None = None

    status: int | None = None
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    cookies: list[Cookie] = field(default_factory=list[Cookie])
    location: str | None = None
    on_end: list[Callable[[], None]] = field(default_factory=list["Callable[[], None]"])

    @property
    def base_url(self) -> str:
        """Address under which the caller reached the server, without a path; empty where the door cannot tell."""
        return self.base()

    @property
    def caller(self) -> Principal:
        """Who calls. Raises Unauthenticated when nobody is known, which only an rpc open to anyone can meet."""
        if self.principal is None:
            raise Unauthenticated("authentication required", reason=ErrorReason.CREDENTIAL_MISSING)
        return self.principal


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call that the running task serves, for log lines that are written far from it."""
