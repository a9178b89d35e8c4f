"""The message for a commit of pending changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import structlog

from core.kernel.errors import DomainError
from core.plans.applying import built, changed_by
from core.plans.state import PlanState, Settings

log = structlog.get_logger("busbar.plans")


class Condense(Protocol):
    """Asks the model that writes commit messages to make one line of several."""

    async def __call__(self, org_id: str, settings: Settings, auth_vars: Mapping[str, str], messages: Sequence[str]) -> str:
        """Return the line. Raises a DomainError when no model can be asked, or it fails."""
        ...


async def commit_message(
    condense: Condense, org_id: str, state: PlanState, auth_vars: Mapping[str, str], paths: Collection[str] | None = None
) -> str:
    """Return what the replies say of their changes, those of some paths or all.

    Of several, a model makes one line. Clients have written the files by then, so that a model that fails must not keep the
    changes pending: what the replies say is then told one by one.
    """
    wanted = [one for one in built(state) if paths is None or not changed_by(one).isdisjoint(paths)]
    messages = [text for one in wanted if (text := one.commit_msg.strip())]
    if len(messages) > 1:
        try:
            return await condense(org_id, state.settings, auth_vars, messages)
        except DomainError as error:
            log.warning("commit_messages_not_condensed", error=error.message)
    return "".join(f"{message}\n" for message in messages)
