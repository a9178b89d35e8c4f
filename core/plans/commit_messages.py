"""The message for a commit of pending changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from core.plans.applying import built, changed_by
from core.plans.state import PlanState, Settings


class Condense(Protocol):
    """Asks the model that writes commit messages to make one line of several."""

    async def __call__(self, org_id: str, settings: Settings, auth_vars: Mapping[str, str], messages: Sequence[str]) -> str:
        """Return the line. Raises Unavailable when no model can be asked."""
        ...


async def commit_message(
    condense: Condense, org_id: str, state: PlanState, auth_vars: Mapping[str, str], paths: Collection[str] | None = None
) -> str:
    """Return what the replies say of their changes, those of some paths or all; of several, a model makes one line.

    Raises:
        Unavailable: There are several, and no model can be asked.
    """
    wanted = [one for one in built(state) if paths is None or not changed_by(one).isdisjoint(paths)]
    messages = [text for one in wanted if (text := one.commit_msg.strip())]
    if len(messages) > 1:
        return await condense(org_id, state.settings, auth_vars, messages)
    return "".join(f"{message}\n" for message in messages)
