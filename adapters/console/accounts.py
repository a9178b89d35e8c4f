"""Users, organisations and keys for the one who runs the server. Works beside a running server: both use the same database."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from core.identity.accounts import Accounts
from core.identity.credentials import Credentials
from core.identity.tables import CredentialRow
from core.kernel.clock import Clock, to_datetime
from core.kernel.errors import FailedPrecondition, NotFound
from core.kernel.settings import Settings
from core.storage.database import Database
from gen.busbar.api.v1.options_pb import CredentialKind

KEY_KINDS = {
    "telemetry": CredentialKind.TELEMETRY_KEY,
    "maker": CredentialKind.AGENT_KEY,
    "lab": CredentialKind.LAB_TOKEN,
}


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key, with its secret, which is shown once."""

    key: str
    id: str
    kind: str
    prefix: str
    scopes: list[str]
    org_id: str
    user_id: str | None


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key, without its secret."""

    id: str
    kind: str
    name: str
    prefix: str
    scopes: list[str]
    org_id: str
    user_id: str | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user; the password is set only when it was made up here."""

    id: str
    email: str
    username: str
    role: str
    org_id: str
    password: str | None


@dataclass(frozen=True, slots=True)
class Org:
    """An organisation."""

    id: str
    name: str


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncGenerator[Database]:
    """Open the database of a server, whatever its schema."""
    database = Database(settings.database_url, settings.storage)
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


@asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncGenerator[Accounts]:
    """Open the accounts of a server.

    Raises:
        FailedPrecondition: The schema is not the one that this program knows.
    """
    async with open_database(settings) as database:
        revision = await database.current_revision()
        if revision != database.head_revision():
            raise FailedPrecondition(f"the database is at revision {revision or 'none'}: run `busbar migrate` first")
        clock = Clock()
        yield Accounts(database, Credentials(database, clock), clock)


async def migrate(settings: Settings) -> tuple[str | None, str]:
    """Bring the schema to the newest revision; return the revisions before and after."""
    async with open_database(settings) as database:
        before = await database.current_revision()
        await database.migrate()
        return before, database.head_revision()


async def create_user(settings: Settings, email: str, username: str, password: str, role: str) -> NewUser:
    """Make a user with an organisation of their own; without a password, make one up."""
    made_up = None if password else secrets.token_urlsafe(12)
    async with open_accounts(settings) as accounts:
        account = await accounts.register(email, password or made_up or "", username=username, role=role, open_session=False)
    user = account.user
    return NewUser(user.id, user.email, user.username, role, account.org_id, made_up)


async def create_org(settings: Settings, name: str) -> Org:
    """Make an organisation without members."""
    async with open_accounts(settings) as accounts:
        row = await accounts.create_org(name)
    return Org(row.id, row.name)


async def list_orgs(settings: Settings) -> list[Org]:
    """Return all organisations, oldest first."""
    async with open_accounts(settings) as accounts:
        return [Org(row.id, row.name) for row in await accounts.list_orgs()]


async def create_key(settings: Settings, kind: str, scopes: list[str], *, org: str, user: str, name: str) -> NewKey:
    """Issue a key for a user, or for an organisation; by default for the first administrator.

    Raises:
        NotFound: There is no such user or organisation.
    """
    async with open_accounts(settings) as accounts:
        org_id, user_id = await _holder(accounts, settings, org, user)
        if kind == "telemetry":
            # Held by the organisation, as the keys of devices are: it outlives whoever made it.
            user_id = None
        issued = await accounts.issue(KEY_KINDS[kind], org_id, user_id=user_id, scopes=tuple(scopes), name=name)
    return NewKey(issued.secret, issued.row.id, kind, issued.row.prefix, scopes, org_id, user_id)


async def list_keys(settings: Settings, org: str) -> list[KnownKey]:
    """Return the keys of an organisation, or all; oldest first, revoked ones too."""
    async with open_accounts(settings) as accounts:
        return [_known_key(row) for row in await accounts.list_keys(KEY_KINDS.values(), org or None)]


async def revoke_key(settings: Settings, key_id: str) -> KnownKey:
    """End a key; a running server refuses it within some seconds. Raises NotFound."""
    async with open_accounts(settings) as accounts:
        return _known_key(await accounts.revoke(key_id, KEY_KINDS.values()))


def _known_key(row: CredentialRow) -> KnownKey:
    kind = next(name for name, kind in KEY_KINDS.items() if int(kind) == row.kind)
    return KnownKey(
        id=row.id,
        kind=kind,
        name=row.name,
        prefix=row.prefix,
        scopes=row.scopes.split(","),
        org_id=row.org_id or "",
        user_id=row.user_id,
        created_at=to_datetime(row.created_us).isoformat(),
        expires_at=None if row.expires_us is None else to_datetime(row.expires_us).isoformat(),
        revoked_at=None if row.revoked_us is None else to_datetime(row.revoked_us).isoformat(),
    )


async def _holder(accounts: Accounts, settings: Settings, org: str, user: str) -> tuple[str, str | None]:
    if org:
        return org, None
    login = user or settings.admin_email or settings.admin_username or "admin"
    found = await accounts.find_user(login)
    if found is None:
        raise NotFound(f"user {login} not found: name one with --user, or an organisation with --org", user=login)
    row, org_id = found
    return org_id, row.id
