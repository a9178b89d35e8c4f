"""Names for addresses."""

from __future__ import annotations

import re
import unicodedata

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.maker.tables import ProjectRow

LONGEST = 120


def slug_of(name: str) -> str:
    """Return a name in lower-case ASCII words with hyphens between them; `project` when nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:LONGEST].rstrip("-") or "project"


async def free_slug(session: AsyncSession, owner_id: str, name: str) -> str:
    """Return a slug that no other project of the owner has. The caller holds the lock of the owner's projects."""
    base = slug_of(name)
    taken = select(ProjectRow.slug).where(col(ProjectRow.owner_id) == owner_id, col(ProjectRow.slug).startswith(base))
    used = set((await session.exec(taken)).all())
    slug, number = base, 1
    while slug in used:
        number += 1
        slug = f"{base}-{number}"
    return slug
