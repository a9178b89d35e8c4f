"""Signed tokens: short-lived statements of this server to itself, which need no row in storage."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.settings import Settings

if TYPE_CHECKING:
    from joserfc.jwk import OctKey

KEY_FILE = "secret.key"
KEY_BYTES = 32
ALGORITHM = "HS256"


class ServerSecret:
    """The secret that this server signs and seals with: the setting `secret_key`, else a file in the data directory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._secret = b""

    def start(self) -> None:
        """Read the secret; make the file at the first start. Processes that start at once agree on one.

        Raises:
            ValueError: The file is damaged.
        """
        chosen = self._settings.secret_key.get_secret_value()
        if chosen:
            self._secret = chosen.encode()
            return
        file = self._settings.data / KEY_FILE
        if not file.exists():
            _make(file)
        self._secret = file.read_bytes()
        if len(self._secret) < KEY_BYTES:
            raise ValueError(f"{file} is damaged: delete it, and what it signed and sealed is lost")

    def derive(self, purpose: str) -> bytes:
        """Return a key for one purpose, so that what is signed for one never counts for another."""
        if not self._secret:
            raise RuntimeError("the server secret was not started")
        return hmac.digest(self._secret, purpose.encode(), "sha256")


def _make(file: Path) -> None:
    """Write a new secret under another name first: a file of the right name is always whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{KEY_FILE}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(secrets.token_bytes(KEY_BYTES))
            out.flush()
            os.fsync(out.fileno())
        # Unlike a rename, a link never replaces the secret of a process that was faster.
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()


class Signer:
    """Signs and verifies the tokens of one purpose, as HS256 JWTs."""

    def __init__(self, secret: ServerSecret, purpose: str, clock: Clock) -> None:
        self._secret = secret
        self._purpose = purpose
        self._clock = clock
        self._known: OctKey | None = None

    @property
    def _key(self) -> OctKey:
        from joserfc.jwk import OctKey  # noqa: PLC0415 - cryptography takes 8 MiB, which few servers need

        if self._known is None:
            self._known = OctKey.import_key(self._secret.derive(self._purpose))
        return self._known

    def sign(self, claims: dict[str, Any], seconds: int) -> str:
        """Return a token that works for some seconds."""
        from joserfc import jwt  # noqa: PLC0415 - as above

        now = self._clock.now_us() // MICROSECONDS
        return jwt.encode({"alg": ALGORITHM}, {**claims, "iat": now, "exp": now + seconds}, self._key)

    def verify(self, token: str) -> dict[str, Any] | None:
        """Return the claims of a token; None when it was not signed here for this purpose, or has expired."""
        from joserfc import jwt  # noqa: PLC0415 - as above
        from joserfc.errors import JoseError  # noqa: PLC0415

        try:
            claims = jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError):
            return None
        expires = claims.get("exp")
        if not isinstance(expires, int) or expires * MICROSECONDS <= self._clock.now_us():
            return None
        return claims
