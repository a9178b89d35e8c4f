"""Secrets of webhooks at rest. They sign, so they must be read again, and are sealed rather than hashed."""

from __future__ import annotations

from sqlmodel import col, or_, select

from core.identity.sealing import SealBrokenError, Sealer
from core.identity.signing import ServerSecret
from core.lab.rules_tables import WebhookRow
from core.storage.database import Database

PLAIN = "plain:"
"""How secrets begin that are from before they were sealed; a start seals them."""


class WebhookSecrets:
    """Seals the secrets of webhooks, each for its own webhook, and opens them."""

    def __init__(self, database: Database, secret: ServerSecret) -> None:
        self._database = database
        self._sealer = Sealer(secret, "lab-webhook-secret")

    async def start(self) -> None:
        """Seal what is not sealed yet."""
        plain = or_(col(WebhookRow.secret).startswith(PLAIN), col(WebhookRow.previous_secret).startswith(PLAIN))
        async with self._database.read() as session:
            if (await session.exec(select(WebhookRow.id).where(plain).limit(1))).first() is None:
                return
        async with self._database.unit_of_work() as session:
            for row in (await session.exec(select(WebhookRow).where(plain).with_for_update())).all():
                row.secret = self._sealed(row.public_id, row.secret)
                row.previous_secret = self._sealed(row.public_id, row.previous_secret)

    def _sealed(self, public_id: str, secret: str | None) -> str | None:
        if secret is None or not secret.startswith(PLAIN):
            return secret
        return self._sealer.seal(secret.removeprefix(PLAIN), public_id)

    def seal(self, public_id: str, secret: str | None) -> str | None:
        """Return the secret of a webhook as it is stored."""
        return None if secret is None else self._sealer.seal(secret, public_id)

    def open(self, public_id: str, sealed: str | None) -> str | None:
        """Return the secret of a webhook again.

        Raises:
            SealBrokenError: The server secret is another one by now.
        """
        return None if sealed is None else self._sealer.open(sealed, public_id)

    def readable(self, row: WebhookRow) -> str | None:
        """Return the secret of a webhook; None when there is none, or none that can be opened."""
        try:
            return self.open(row.public_id, row.secret)
        except SealBrokenError:
            return None
