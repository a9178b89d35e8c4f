"""Sealed texts: what this server must read again, such as a secret that signs, kept so that nobody else can."""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING

from core.identity.signing import ServerSecret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = "v1:"
"""How sealed texts begin: AES-256-GCM, the nonce first, in base64url."""
_NONCE_BYTES = 12


class SealBrokenError(Exception):
    """A sealed text was not sealed here, for this purpose and place, or is damaged."""


class Sealer:
    """Seals and opens texts of one purpose with a key that comes from the server secret."""

    def __init__(self, secret: ServerSecret, purpose: str) -> None:
        self._secret = secret
        self._purpose = purpose
        self._known: AESGCM | None = None

    @property
    def _cipher(self) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - takes memory that few servers need

        if self._known is None:
            self._known = AESGCM(self._secret.derive(self._purpose))
        return self._known

    def seal(self, text: str, place: str) -> str:
        """Return a text sealed for one place, such as the id of its row: it opens nowhere else."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), place.encode())
        return VERSION + base64.urlsafe_b64encode(sealed).decode()

    def open(self, sealed: str, place: str) -> str:
        """Return the text again.

        Raises:
            SealBrokenError: It was sealed with another server secret, for another place, or is damaged.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above

        try:
            data = base64.b64decode(sealed.removeprefix(VERSION), altchars=b"-_", validate=True)
            return self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], place.encode()).decode()
        except (binascii.Error, InvalidTag, ValueError) as error:
            raise SealBrokenError("the seal is broken") from error
