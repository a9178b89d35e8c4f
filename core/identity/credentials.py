"""Credentials of every kind: one table, one `authenticate`, verified callers kept in memory.

After its first call a credential costs a hash and a dictionary look-up; the database is not asked again. A revocation must act
at once, and drops the caller from memory; the time of last use and the sliding end of sessions may be late, and are written in
the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import structlog
from sqlalchemy import ColumnElement, delete, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.invites import Invites
from core.identity.places import Places, membership
from core.identity.secrets import apparent_kind, hash_secret, new_secret, shown_prefix
from core.identity.tables import CredentialRow, UserRow
from core.kernel.call import Ended, Principal
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import Unavailable
from core.kernel.ids import new_id
from core.storage.database import Database
from gen.busbar.api.v1.options_pb import CredentialKind

SESSION_LIFE_US = 30 * 24 * 3600 * MICROSECONDS
"""How long a session lives without use; it is extended when less than half of that is left."""

FLUSH_SECONDS = 5.0
"""How late the time of last use may be in storage."""

REVOKED_OVERLAP_US = 60 * MICROSECONDS
"""How far behind another process's clock, or the commit of a revocation, may be without the revocation being missed."""

MOST_REFUSED = 256
"""Ended credentials whose end is remembered, to name it in the refusal that follows."""

MOST_CREDENTIAL_BYTES = 4096
"""A longer secret is refused unread: none of ours is that long."""

PLANS_TOKEN_LIFE_US = 90 * 24 * 3600 * MICROSECONDS
"""How long a token of the plans command line lives."""

SESSION = CredentialKind.SESSION

Watchers = dict[str, set[Callable[[], None]]]
"""Who is to be told, by the id of a credential or a user."""

log = structlog.get_logger("busbar.identity")


@dataclass(frozen=True, slots=True)
class Issued:
    """A new credential together with its secret, which is shown once."""

    secret: str
    row: CredentialRow


class Credentials:
    """Issues, recognises and revokes credentials.

    Attributes:
        places: Where the users of credentials without an organisation act.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.places = Places(database, Invites(clock))
        self._known: dict[str, Principal] = {}
        self._hashes: dict[str, str] = {}
        self._refused: dict[str, Ended] = {}
        self._used: dict[str, int] = {}
        self._extended: dict[str, int] = {}
        self._watchers: Watchers = defaultdict(set)
        self._user_watchers: Watchers = defaultdict(set)
        self._flusher: asyncio.Task[None] | None = None
        self._checked_us = clock.now_us()

    async def start(self) -> None:
        """Begin to write times of last use in the background."""
        self._flusher = asyncio.create_task(self._flush_often(), name="credential-flush")

    async def stop(self) -> None:
        """Write what is still unwritten."""
        if self._flusher is not None:
            self._flusher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flusher
        await self._flush_if_possible()

    def known(self, credential: str) -> Principal | None:
        """Return the caller from memory; None when storage must be asked."""
        digest = hash_secret(credential)
        principal = self._known.get(digest)
        if principal is None:
            return None
        now = self._clock.now_us()
        self._used[principal.credential_id] = now
        if principal.expires_at_us is None:
            return principal
        if principal.expires_at_us <= now:
            self._remember_refused(digest, Ended("expired", principal.kind))
            self._forget(digest)
            return None
        if principal.kind == SESSION and principal.expires_at_us - now < SESSION_LIFE_US // 2:
            principal = replace(principal, expires_at_us=now + SESSION_LIFE_US)
            self._known[digest] = principal
            self._extended[principal.credential_id] = now + SESSION_LIFE_US
        return principal

    async def authenticate(self, credential: str) -> Principal | None:
        """Return the caller, or None for a credential that is unknown, expired or revoked."""
        if len(credential) > MOST_CREDENTIAL_BYTES:
            return None
        # The digest of a random secret is no oracle: looking it up by an index tells nothing about near misses.
        row = await self._load(col(CredentialRow.hash) == hash_secret(credential))
        return None if row is None else self.known(credential)

    def why_not(self, credential: str) -> Ended:
        """Return why a credential has just been refused or dropped; one that is unknown is judged by how it begins."""
        known = self._refused.get(hash_secret(credential))
        return known or Ended("unknown", apparent_kind(credential))

    async def find(self, credential_id: str) -> Principal | None:
        """Return whom a credential stands for by its id, or None for one that is unknown, expired or revoked."""
        digest = self._hashes.get(credential_id)
        if digest is None:
            row = await self._load(col(CredentialRow.id) == credential_id)
            if row is None:
                return None
            digest = row.hash
        principal = self._known.get(digest)
        if principal is None or (principal.expires_at_us is not None and principal.expires_at_us <= self._clock.now_us()):
            return None
        return principal

    async def _load(self, wanted: ColumnElement[bool]) -> CredentialRow | None:
        """Take the caller of a live credential into memory."""
        async with self._database.read() as session:
            row = (await session.exec(select(CredentialRow).where(wanted))).one_or_none()
            how = None if row is None else await self._ended(session, row)
            if row is None or how is not None:
                if row is not None and how is not None:
                    self._remember_refused(row.hash, Ended(how, CredentialKind(row.kind)))
                return None
            role, owner = await self._role(session, row)
        self._known[row.hash] = _principal(row, role, owner=owner)
        self._hashes[row.id] = row.hash
        return row

    async def _ended(self, session: AsyncSession, row: CredentialRow) -> str | None:
        """Return how a credential has ended; None while it counts."""
        if row.revoked_us is not None:
            owner = None if row.user_id is None else await session.get(UserRow, row.user_id)
            return "ownerless" if owner is not None and owner.deleted_us is not None else "revoked"
        return "expired" if row.expires_us is not None and row.expires_us <= self._clock.now_us() else None

    def _remember_refused(self, digest: str, ended: Ended) -> None:
        self._refused.pop(digest, None)
        while len(self._refused) >= MOST_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._refused[digest] = ended

    async def _role(self, session: AsyncSession, row: CredentialRow) -> tuple[str, bool]:
        """Return the role of a credential's user in its organisation, and whether they own it."""
        if row.user_id is None:
            return "operator", False
        found = None if row.org_id is None else await membership(session, row.org_id, row.user_id)
        return ("viewer", False) if found is None else (found.role, found.owner)

    async def issue(  # noqa: PLR0913 - a credential has that many sides
        self,
        session: AsyncSession,
        kind: CredentialKind,
        org_id: str | None,
        *,
        user_id: str | None = None,
        scopes: Iterable[str] = ("*",),
        name: str = "",
        bound_to: str | None = None,
        board_ids: Iterable[str] | None = None,
        expires_us: int | None = None,
        read_only: bool = False,
        tools: Iterable[str] | None = None,
        secret: str | None = None,
    ) -> Issued:
        """Add a credential to the caller's unit of work and return it with its secret, made here unless it is given."""
        secret = secret or new_secret(kind)
        now = self._clock.now_us()
        if kind == CredentialKind.SESSION and expires_us is None:
            expires_us = now + SESSION_LIFE_US
        if kind == CredentialKind.PLANS_TOKEN and expires_us is None:
            expires_us = now + PLANS_TOKEN_LIFE_US
        row = CredentialRow(
            id=new_id("cred_"),
            kind=int(kind),
            hash=hash_secret(secret),
            prefix=shown_prefix(kind, secret),
            name=name,
            org_id=org_id,
            user_id=user_id,
            scopes=",".join(scopes),
            bound_to=bound_to,
            board_ids=None if board_ids is None else json.dumps(sorted(board_ids)),
            read_only=read_only,
            tools=None if tools is None else json.dumps(sorted(tools)),
            created_us=now,
            expires_us=expires_us,
        )
        session.add(row)
        return Issued(secret, row)

    async def revoke(self, session: AsyncSession, credential_ids: Iterable[str]) -> list[str]:
        """Mark credentials as revoked in the caller's unit of work. Call `drop` with the result once it is committed."""
        ids = list(credential_ids)
        await session.exec(
            update(CredentialRow)
            .where(col(CredentialRow.id).in_(ids), col(CredentialRow.revoked_us).is_(None))
            .values(revoked_us=self._clock.now_us())
        )
        return ids

    def drop(self, credential_ids: Iterable[str], how: str = "revoked") -> None:
        """Forget callers at once and tell whoever waits for the end of their credentials; `how` is that of Ended."""
        for credential_id in credential_ids:
            digest = self._hashes.get(credential_id)
            if digest is not None:
                self._remember_refused(digest, Ended(how, self._known[digest].kind))
                self._forget(digest)
            for callback in list(self._watchers.pop(credential_id, ())):
                callback()

    def reread_user(self, user_id: str) -> None:
        """Forget what is known of a user's credentials: their next use finds the user's present places and roles.

        Whoever acts for the user without calling anew is told.
        """
        self.places.forget(user_id)
        for digest in [digest for digest, principal in self._known.items() if principal.user_id == user_id]:
            self._forget(digest)
        for callback in list(self._user_watchers.get(user_id, ())):
            callback()

    def last_used_us(self, row: CredentialRow) -> int | None:
        """Return when a credential was last used, also when that is not written yet."""
        return self._used.get(row.id, row.last_used_us)

    async def revoke_user(self, session: AsyncSession, user_id: str) -> list[str]:
        """Mark all credentials of a user as revoked in the caller's unit of work; `drop` the result once it is committed."""
        live = select(CredentialRow.id).where(col(CredentialRow.user_id) == user_id, col(CredentialRow.revoked_us).is_(None))
        return await self.revoke(session, (await session.exec(live)).all())

    async def revoke_member(self, session: AsyncSession, org_id: str, user_id: str) -> list[str]:
        """Mark a user's credentials for one organisation as revoked; `drop` the result once it is committed."""
        live = select(CredentialRow.id).where(
            col(CredentialRow.user_id) == user_id,
            col(CredentialRow.org_id) == org_id,
            col(CredentialRow.revoked_us).is_(None),
        )
        return await self.revoke(session, (await session.exec(live)).all())

    async def purge(self, kind: CredentialKind, ended_before_us: int) -> None:
        """Delete credentials of a kind that ended before a time."""
        async with self._database.unit_of_work() as session:
            await session.exec(
                delete(CredentialRow).where(
                    col(CredentialRow.kind) == int(kind), col(CredentialRow.expires_us) < ended_before_us
                )
            )

    def watch(self, credential_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when a credential is revoked; returns what ends the watch."""
        return _watch(self._watchers, credential_id, callback)

    def watch_user(self, user_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when the role of a user may have changed; returns what ends the watch."""
        return _watch(self._user_watchers, user_id, callback)

    async def flush(self) -> None:
        """Write times of last use and extended sessions."""
        used, self._used = self._used, {}
        extended, self._extended = self._extended, {}
        if not used:
            return

        async with self._database.unit_of_work() as session:
            for credential_id, at in used.items():
                values = {"last_used_us": at}
                if credential_id in extended:
                    values["expires_us"] = extended[credential_id]
                await session.exec(update(CredentialRow).where(col(CredentialRow.id) == credential_id).values(**values))

    async def drop_revoked(self) -> None:
        """Drop what other processes revoked lately, such as the command line beside a running server."""
        now = self._clock.now_us()
        since = self._checked_us - REVOKED_OVERLAP_US
        async with self._database.read() as session:
            ended = (await session.exec(select(CredentialRow.id).where(col(CredentialRow.revoked_us) > since))).all()
        self.drop(ended)
        self._checked_us = now

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            with contextlib.suppress(Unavailable):
                await self.drop_revoked()
            await self._flush_if_possible()

    async def _flush_if_possible(self) -> None:
        try:
            await self.flush()
        except Unavailable:
            # Storage is away; the next use of each credential brings its time again.
            log.warning("times of last use were not written")

    def _forget(self, digest: str) -> None:
        principal = self._known.pop(digest, None)
        if principal is not None:
            self._hashes.pop(principal.credential_id, None)


def _watch(watching: Watchers, key: str, callback: Callable[[], None]) -> Callable[[], None]:
    watching[key].add(callback)

    def end() -> None:
        watchers = watching.get(key)
        if watchers is not None:
            watchers.discard(callback)
            if not watchers:
                del watching[key]

    return end


def _principal(row: CredentialRow, role: str, *, owner: bool) -> Principal:
    kind = CredentialKind(row.kind)
    # An empty list is what a telemetry key has by default, and never full access.
    scopes = row.scopes or ("write" if kind == CredentialKind.TELEMETRY_KEY else "")
    return Principal(
        credential_id=row.id,
        kind=kind,
        org_id=row.org_id or "",
        user_id=row.user_id,
        scopes=frozenset(filter(None, scopes.split(","))),
        role=role,
        owner=owner,
        bound_to=row.bound_to,
        board_ids=None if row.board_ids is None else frozenset(json.loads(row.board_ids)),
        expires_at_us=row.expires_us,
        read_only=row.read_only,
        tools=None if row.tools is None else frozenset(json.loads(row.tools)),
    )
