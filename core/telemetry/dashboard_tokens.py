"""Tokens with which a dashboard opens its socket, where a browser can send neither header nor body."""

from __future__ import annotations

from core.identity.credentials import Credentials
from core.identity.signing import Signer
from core.kernel.call import Principal
from gen.busbar.api.v1.options_pb import CredentialKind

TOKEN_SECONDS = 300


class DashboardTokens:
    """Issues and verifies them. A token stands for the session that asked for it, and ends with it."""

    def __init__(self, signer: Signer, credentials: Credentials) -> None:
        self._signer = signer
        self._credentials = credentials

    def issue(self, session: Principal) -> str:
        """Return a token for a session."""
        claims = {"org_id": session.org_id, "user_id": session.user_id, "session": session.credential_id}
        return self._signer.sign(claims, TOKEN_SECONDS)

    async def verify(self, token: str) -> Principal | None:
        """Return the session's caller; None for a token that is no such, has expired, or whose session has ended.

        The caller's `credential_id` is that of the session: watch it to learn when it is revoked.
        """
        claims = self._signer.verify(token)
        if claims is None:
            return None
        session = await self._credentials.find(str(claims.get("session")))
        if session is None or session.kind != CredentialKind.SESSION:
            return None
        return session if (session.org_id, session.user_id) == (claims.get("org_id"), claims.get("user_id")) else None
