"""One commit message of several: the model that plays that role makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.kernel.errors import UpstreamFailed
from core.plans.completion import Roles
from core.plans.questions import Message
from core.plans.state import Settings

_TASK = (
    "You write commit messages. You are given the messages of several changes that are committed together. Answer with one "
    "line of at most 100 characters that sums them up, in the imperative, without quotation marks and without anything else."
)


class Condenser:
    """Asks for the line."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles

    async def __call__(self, org_id: str, settings: Settings, auth_vars: Mapping[str, str], messages: Sequence[str]) -> str:
        """Return the line.

        Raises:
            Unavailable: No model can be asked.
            UpstreamFailed: The answer is empty.
        """
        models = await self._roles.for_branch(org_id, settings, auth_vars)
        listed = "\n".join(f"- {message}" for message in messages)
        answer = await models.ask("commit-messages", (Message("system", _TASK), Message("user", listed)))
        line = " ".join(answer.split())
        if not line:
            raise UpstreamFailed("the model that writes commit messages answered nothing")
        return line
