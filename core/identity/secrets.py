"""Secrets: how they are made, hashed and compared. Nothing here is ever logged."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import string
import unicodedata
import uuid
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gen.busbar.api.v1.options_pb import CredentialKind

BASE62 = string.ascii_letters + string.digits

PREFIXES = {
    CredentialKind.AGENT_KEY: "plnx_",
    CredentialKind.TELEMETRY_KEY: "plx_",
    CredentialKind.DEVICE_TOKEN: "plxd_",
    CredentialKind.BOARD_TOKEN: "pbt_",
    CredentialKind.LAB_TOKEN: "wm_",
    CredentialKind.SHARE_TOKEN: "plxs_",
}
"""Words with which secrets of a kind begin, so that people and scanners recognise them."""

LAB_TOKEN_BYTES = 48
"""Random bytes of a lab token, as URL-safe base 64: with its prefix it has the 67 characters that its clients know."""

LENGTHS = {CredentialKind.TELEMETRY_KEY: 32, CredentialKind.DEVICE_TOKEN: 32}
"""Characters after the prefix where a contract fixes them; 43 of base 62 hold 256 bits."""

SHOWN = {CredentialKind.AGENT_KEY: 10, CredentialKind.TELEMETRY_KEY: 12, CredentialKind.BOARD_TOKEN: 6}
"""First characters that may be shown to tell secrets apart."""

_hasher = PasswordHasher()


def new_secret(kind: CredentialKind) -> str:
    """Return a fresh secret of a kind. Sessions are URL-safe base 64 of 256 bits; most others base 62 behind their prefix.

    The command line of plans takes a UUID, of which 122 bits are random.
    """
    if kind == CredentialKind.PLANS_TOKEN:
        return str(uuid.uuid4())
    if kind not in PREFIXES:
        return secrets.token_urlsafe(32)
    if kind == CredentialKind.LAB_TOKEN:
        return PREFIXES[kind] + secrets.token_urlsafe(LAB_TOKEN_BYTES)
    return PREFIXES[kind] + "".join(secrets.choice(BASE62) for _ in range(LENGTHS.get(kind, 43)))


def apparent_kind(secret: str) -> CredentialKind | None:
    """Return the kind that a secret claims to be by the word with which it begins; None for those without one."""
    return next((kind for kind, prefix in PREFIXES.items() if secret.startswith(prefix)), None)


def shown_prefix(kind: CredentialKind, secret: str) -> str:
    """Return the part of a secret that may be shown again."""
    return secret[: SHOWN.get(kind, 8)]


def hash_secret(secret: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


async def hash_password(password: str) -> str:
    """Return the argon2id hash of a password in Unicode normal form C. Runs in a thread: it takes tens of milliseconds."""
    return await asyncio.to_thread(_hasher.hash, unicodedata.normalize("NFC", password))


async def verify_password(stored: str | None, password: str) -> bool:
    """Compare a password with its hash; without a hash, do the same work and say no."""
    return await asyncio.to_thread(_verify, stored, unicodedata.normalize("NFC", password))


@cache
def _decoy() -> str:
    """Return what is verified against when a user is unknown, so that an answer takes as long as for a wrong password."""
    return _hasher.hash(secrets.token_urlsafe(16))


def _verify(stored: str | None, password: str) -> bool:
    try:
        _hasher.verify(stored or _decoy(), password)
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None
