"""What becomes of a user's things when the user is deleted: each part of the lab that keeps any says so here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlmodel.ext.asyncio.session import AsyncSession

Forget = Callable[[AsyncSession, str, str], Awaitable[None]]
"""Deletes or disowns, in the caller's unit of work, what a user of an organisation owns."""

AfterCommit = Callable[[str, str], Awaitable[None]]
"""Brings memory up to date once a user of an organisation is gone."""


class UsersGone:
    """The parts of the lab that keep things of users, in the order in which they must let go of them."""

    def __init__(self) -> None:
        self._forget: list[Forget] = []
        self._after: list[AfterCommit] = []

    def on_forget(self, forget: Forget, after: AfterCommit | None = None) -> None:
        """Say what to do when a user is deleted, and what once that is committed."""
        self._forget.append(forget)
        if after is not None:
            self._after.append(after)

    async def forget(self, session: AsyncSession, org_id: str, user_id: str) -> None:
        """Let go of everything that a user owns, within the unit of work that deletes the user."""
        for forget in self._forget:
            await forget(session, org_id, user_id)

    async def committed(self, org_id: str, user_id: str) -> None:
        """Bring memory up to date after the commit."""
        for after in self._after:
            await after(org_id, user_id)
