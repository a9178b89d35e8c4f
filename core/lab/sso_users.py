"""Which user of the lab it is that an identity provider vouches for, and who may become one."""

from __future__ import annotations

import re
import secrets
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.external import ExternalUsers, Known
from core.kernel.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from core.kernel.settings import Settings
from core.lab.oidc import Identity

LONGEST_NAME = 50
_SUFFIX_BYTES = 3
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")


def identity_of(claims: dict[str, Any]) -> Identity:
    """Return who the claims of a provider are about. Raises InvalidArgument where they do not say it."""
    email, subject = claims.get("email"), claims.get("sub")
    if not isinstance(email, str) or not email:
        raise InvalidArgument("The identity provider gave no email address.")
    if not isinstance(subject, str) or not subject:
        raise InvalidArgument("The identity provider gave no subject.")
    given = (claims.get("preferred_username"), claims.get("name"), email.partition("@")[0])
    names = tuple(name for name in given if isinstance(name, str) and name)
    return Identity(subject, email, claims.get("email_verified") is True, names)


class SsoUsers:
    """Finds the user of an identity, links one by mail address, or makes one."""

    def __init__(self, external: ExternalUsers, settings: Settings) -> None:
        self._external = external
        self._settings = settings

    async def resolve(self, session: AsyncSession, identity: Identity) -> Known:
        """Return the user of an identity.

        Raises:
            PermissionDenied: The address is not proved or an administrator's, or users are not made by themselves.
            FailedPrecondition: There is no organisation for a new user.
        """
        provider = self._settings.oidc_provider_name
        known = await self._external.by_subject(session, provider, identity.subject)
        if known is not None:
            return known
        known = await self._external.by_email(session, identity.email)
        if known is None and not self._settings.oidc_auto_create_users:
            raise PermissionDenied("There is no such user, and automatic user creation is disabled.")
        if not identity.verified:
            raise PermissionDenied("The identity provider has not verified the email address.")
        if known is None:
            return await self._add(session, identity)
        if known.role == "admin":
            raise PermissionDenied("An admin account cannot be linked to an identity provider by its email address.")
        await self._external.link(session, known.user.id, provider, identity.subject)
        return known

    async def _add(self, session: AsyncSession, identity: Identity) -> Known:
        org_id = self._settings.oidc_org_id
        if not org_id:
            admin = await self._external.first_admin(session)
            if admin is None:
                raise FailedPrecondition("There is no administrator whose organisation could take the user.")
            org_id = admin.org_id
        return await self._external.add(
            session,
            org_id,
            self._settings.oidc_default_role,
            email=identity.email,
            username=await self._username(session, identity),
            provider=self._settings.oidc_provider_name,
            subject=identity.subject,
        )

    async def _username(self, session: AsyncSession, identity: Identity) -> str:
        name = _UNFIT.sub("", identity.names[0])[:LONGEST_NAME] or f"sso_user_{secrets.token_hex(_SUFFIX_BYTES)}"
        while await self._external.is_taken(session, name):
            suffix = f"_{secrets.token_hex(_SUFFIX_BYTES)}"
            name = _UNFIT.sub("", identity.names[0])[: LONGEST_NAME - len(suffix)] + suffix
        return name
