"""What becomes of the things that name an event when the event is deleted: each part of the lab that keeps any says so here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from sqlmodel.ext.asyncio.session import AsyncSession

Forget = Callable[[AsyncSession, str, Collection[str]], Awaitable[None]]
"""Deletes or unlinks, in the caller's unit of work, what names some events of an organisation by their public ids."""

AfterCommit = Callable[[str], Awaitable[None]]
"""Brings memory up to date once events of an organisation are gone."""


class EventsGone:
    """The parts of the lab that keep things which name events."""

    def __init__(self) -> None:
        self._forget: list[Forget] = []
        self._after: list[AfterCommit] = []

    def on_forget(self, forget: Forget, after: AfterCommit | None = None) -> None:
        """Say what to do when events are deleted, and what once that is committed."""
        self._forget.append(forget)
        if after is not None:
            self._after.append(after)

    async def forget(self, session: AsyncSession, org_id: str, event_ids: Collection[str]) -> None:
        """Let go of everything that names some events, within the unit of work that deletes them."""
        for forget in self._forget:
            await forget(session, org_id, event_ids)

    async def committed(self, org_id: str) -> None:
        """Bring memory up to date after the commit."""
        for after in self._after:
            await after(org_id)
