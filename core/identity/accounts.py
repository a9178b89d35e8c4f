"""Users and organisations."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.credentials import Credentials, Issued
from core.identity.secrets import hash_password, verify_password
from core.identity.tables import CredentialRow, MembershipRow, OrgRow, UserRow
from core.kernel.clock import Clock
from core.kernel.errors import AlreadyExists, InvalidArgument, NotFound
from core.kernel.ids import new_id
from core.storage.database import Database
from gen.busbar.api.v1.options_pb import CredentialKind

Registering = Callable[[AsyncSession, UserRow], Awaitable[None]]
"""Does what belongs to a registration, in its unit of work."""

USERNAME = re.compile(r"[a-z][a-z0-9_-]{2,31}")


@dataclass(frozen=True, slots=True)
class Account:
    """A user, where they act, and the session that was opened for them."""

    user: UserRow
    org_id: str
    session: Issued | None = None


@dataclass(frozen=True, slots=True)
class FirstAdmin:
    """The administrator of a fresh server; the password is set only when it was made up here."""

    email: str
    username: str
    password: str | None


class Accounts:
    """Registers users, each with a personal organisation, and checks their passwords."""

    def __init__(self, database: Database, credentials: Credentials, clock: Clock) -> None:
        self._database = database
        self.credentials = credentials
        self._clock = clock
        self._registering: list[Registering] = []

    def on_register(self, work: Registering) -> None:
        """Let work be done in the unit of work of every registration, whichever door it came by."""
        self._registering.append(work)

    async def register(
        self,
        email: str,
        password: str,
        *,
        username: str = "",
        display_name: str = "",
        role: str = "user",
        open_session: bool = True,
        also: Registering | None = None,
    ) -> Account:
        """Make a user, their personal organisation and, if wanted, a session, all in one transaction.

        `also` is done in that transaction too, and a refusal of it undoes the rest.

        Raises:
            AlreadyExists: The address or the username is taken; two concurrent calls give one success.
        """
        email = email.strip().lower()
        hashed = await hash_password(password)
        try:
            async with self._database.unit_of_work() as session:
                name = await self._free_username(session, email, username.lower())
                user = UserRow(
                    id=new_id("usr_"),
                    email=email,
                    username=name,
                    display_name=display_name or name,
                    role=role,
                    password_hash=hashed,
                    created_us=self._clock.now_us(),
                )
                org = self._new_org(f"{name}'s workshop")
                session.add_all([user, org])
                await session.flush()
                session.add(self._membership(org.id, user.id, "admin", owner=True))
                await session.flush()
                for work in (*self._registering, *([also] if also else [])):
                    await work(session, user)
                issued = None
                if open_session:
                    issued = await self.credentials.issue(session, CredentialKind.SESSION, org.id, user_id=user.id)
        except IntegrityError as error:
            # The look-up below the transaction's start found both free, and another registration was faster.
            raise AlreadyExists("email or username is already taken", field="email") from error
        return Account(user, org.id, issued)

    async def register_by_mail(self, session: AsyncSession, email: str, name: str) -> UserRow:
        """Make a user without a password or an organisation, in the caller's unit of work; they sign in by mail.

        Raises:
            AlreadyExists: The address is taken.
        """
        user = UserRow(
            id=str(uuid.uuid4()),
            email=email,
            username=await self._free_username(session, email, ""),
            display_name=name,
            password_hash="",
            created_us=self._clock.now_us(),
        )
        session.add(user)
        await session.flush()
        for work in self._registering:
            await work(session, user)
        return user

    async def _free_username(self, session: AsyncSession, email: str, username: str) -> str:
        if (await session.exec(select(UserRow.id).where(col(UserRow.email) == email))).first():
            raise AlreadyExists("email is already registered", field="email")
        if username:
            if not USERNAME.fullmatch(username):
                raise InvalidArgument.field("username", "must be 3-32 of a-z, 0-9, _ and -, starting with a letter")
            if (await session.exec(select(UserRow.id).where(col(UserRow.username) == username))).first():
                raise AlreadyExists("username is already taken", field="username")
            return username
        base = _username_from(email)
        candidate, number = base, 1
        while (await session.exec(select(UserRow.id).where(col(UserRow.username) == candidate))).first():
            number += 1
            candidate = f"{base[:26]}{number}"
        return candidate

    async def check_password(self, login: str, password: str) -> Account | None:
        """Return whose password it is; None for an unknown user and for a wrong password, after the same work."""
        login = login.strip().lower()
        async with self._database.read() as session:
            column = UserRow.email if "@" in login else UserRow.username
            user = (await session.exec(select(UserRow).where(col(column) == login))).one_or_none()
            org_id = "" if user is None else await self._home(session, user.id)
        # Those who sign in by mail have no password, and perhaps no organisation: no password is theirs.
        stored = user.password_hash if user is not None and org_id else ""
        if not await verify_password(stored or None, password) or user is None:
            return None
        return Account(user, org_id)

    async def sign_in(self, login: str, password: str) -> Account | None:
        """Open a session; None for an unknown user and for a wrong password, after the same work."""
        account = await self.check_password(login, password)
        if account is None:
            return None
        async with self._database.unit_of_work() as session:
            issued = await self.credentials.issue(session, CredentialKind.SESSION, account.org_id, user_id=account.user.id)
        return Account(account.user, account.org_id, issued)

    async def sign_out(self, credential_id: str) -> None:
        """End one session."""
        async with self._database.unit_of_work() as session:
            ended = await self.credentials.revoke(session, [credential_id])
        self.credentials.drop(ended)

    async def change_password(self, user_id: str, password: str, *, keep: str) -> None:
        """Set a password and end every session of the user but the one to keep."""
        hashed = await hash_password(password)
        async with self._database.unit_of_work() as session:
            user = await session.get_one(UserRow, user_id)
            user.password_hash = hashed
            sessions = await session.exec(
                select(CredentialRow.id).where(
                    col(CredentialRow.user_id) == user_id,
                    col(CredentialRow.kind) == int(CredentialKind.SESSION),
                    col(CredentialRow.revoked_us).is_(None),
                    col(CredentialRow.id) != keep,
                )
            )
            ended = await self.credentials.revoke(session, sessions.all())
        self.credentials.drop(ended)

    async def get_user(self, user_id: str) -> UserRow:
        """Return a user. Raises NotFound."""
        async with self._database.read() as session:
            user = await session.get(UserRow, user_id)
        if user is None:
            raise NotFound(f"user {user_id} not found", user=user_id)
        return user

    async def find_user(self, login: str) -> tuple[UserRow, str] | None:
        """Return a user by mail address or username, with the organisation where they act; empty for one who has none."""
        login = login.strip().lower()
        async with self._database.read() as session:
            column = UserRow.email if "@" in login else UserRow.username
            user = (await session.exec(select(UserRow).where(col(column) == login))).one_or_none()
            return None if user is None else (user, await self._home(session, user.id))

    async def ensure_first_admin(self, email: str, username: str, password: str) -> FirstAdmin | None:
        """Make the first administrator of a server without users; None when there are users."""
        async with self._database.read() as session:
            if (await session.exec(select(UserRow.id).limit(1))).first():
                return None
        email, username = email or "admin@busbar.local", username or "admin"
        made_up = None if password else secrets.token_urlsafe(12)
        try:
            await self.register(email, password or made_up or "", username=username, role="admin", open_session=False)
        except AlreadyExists:
            # Another process started on the same fresh directory at the same time and was faster.
            return None
        return FirstAdmin(email, username, made_up)

    async def create_org(self, name: str) -> OrgRow:
        """Make an organisation without members."""
        async with self._database.unit_of_work() as session:
            org = self._new_org(name)
            session.add(org)
        return org

    async def list_orgs(self) -> list[OrgRow]:
        """Return all organisations, oldest first."""
        async with self._database.read() as session:
            return list((await session.exec(select(OrgRow).order_by(col(OrgRow.created_us), col(OrgRow.id)))).all())

    async def issue(
        self,
        kind: CredentialKind,
        org_id: str,
        *,
        user_id: str | None = None,
        scopes: tuple[str, ...] = ("*",),
        name: str = "",
        expires_us: int | None = None,
    ) -> Issued:
        """Issue a credential in a transaction of its own. Raises NotFound for an unknown organisation."""
        async with self._database.unit_of_work() as session:
            if await session.get(OrgRow, org_id) is None:
                raise NotFound(f"org {org_id} not found", org=org_id)
            return await self.credentials.issue(
                session, kind, org_id, user_id=user_id, scopes=scopes, name=name, expires_us=expires_us
            )

    async def list_keys(self, kinds: Iterable[CredentialKind], org_id: str | None) -> list[CredentialRow]:
        """Return the keys of some kinds, of one organisation or of all, oldest first."""
        query = select(CredentialRow).where(col(CredentialRow.kind).in_([int(kind) for kind in kinds]))
        if org_id is not None:
            query = query.where(col(CredentialRow.org_id) == org_id)
        async with self._database.read() as session:
            return list((await session.exec(query.order_by(col(CredentialRow.created_us), col(CredentialRow.id)))).all())

    async def revoke(self, credential_id: str, kinds: Iterable[CredentialKind]) -> CredentialRow:
        """End a credential of one of some kinds. Raises NotFound."""
        async with self._database.unit_of_work() as session:
            row = await session.get(CredentialRow, credential_id)
            if row is None or row.kind not in [int(kind) for kind in kinds]:
                raise NotFound(f"key {credential_id} not found", key=credential_id)
            ended = await self.credentials.revoke(session, [credential_id])
            await session.refresh(row)
        self.credentials.drop(ended)
        return row

    async def _home(self, session: AsyncSession, user_id: str) -> str:
        memberships = select(MembershipRow.org_id).where(col(MembershipRow.user_id) == user_id)
        return (await session.exec(memberships.order_by(col(MembershipRow.created_us)).limit(1))).first() or ""

    def _new_org(self, name: str) -> OrgRow:
        return OrgRow(id=new_id("org_"), name=name, created_us=self._clock.now_us())

    def _membership(self, org_id: str, user_id: str, role: str, *, owner: bool) -> MembershipRow:
        now = self._clock.now_us()
        return MembershipRow(id=new_id("mem_"), org_id=org_id, user_id=user_id, role=role, owner=owner, created_us=now)


def _username_from(email: str) -> str:
    """Return a username made of the local part of an address."""
    kept = re.sub(r"[^a-z0-9_-]", "", email.partition("@")[0].lower())
    kept = kept if kept[:1].isalpha() else f"u{kept}"
    return kept[:32].ljust(3, "0")
