"""Locks on names, for rules over several rows that no unique constraint can hold."""

from __future__ import annotations

import hashlib

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

_TAKE = text("SELECT pg_advisory_xact_lock(:key)")


async def lock_name(session: AsyncSession, name: str) -> None:
    """Wait until no other unit of work holds the name, and hold it until this one ends.

    Take it before reading what it protects. SQLite has one unit of work at a time, so there is nothing to wait for.
    """
    if session.get_bind().dialect.name == "postgresql":
        digest = hashlib.sha256(name.encode()).digest()
        await (await session.connection()).execute(_TAKE, {"key": int.from_bytes(digest[:8], signed=True)})
