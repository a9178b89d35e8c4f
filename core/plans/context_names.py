"""Names of notes and piped data: the naming model finds them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from core.kernel.errors import Unavailable, UpstreamFailed
from core.plans.completion import Roles
from core.plans.context_items import NOTE, UNNAMED
from core.plans.questions import Function, Message, Parameter
from core.plans.state import Settings
from gen.busbar.plans.v1.contexts_pb import LoadContextParams

MOST_READ = 8000
"""Characters of a text that the naming model is shown."""

_NAME = Parameter("A name of two to five lower-case words joined by dashes, without an extension.")
_FUNCTIONS = {
    True: Function("nameNote", "Tells the name of a note.", {"name": _NAME}),
    False: Function("namePipedData", "Tells the name of the output of a command.", {"name": _NAME}),
}
_WORDS = 4


class ContextNames:
    """Finds names."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles

    async def fill(
        self, org_id: str, settings: Settings, items: Iterable[LoadContextParams], auth_vars: Mapping[str, str]
    ) -> None:
        """Give a name to each note and piece of piped data that has none.

        Where no model can be asked, the first words of the text are its name: a note is not worth refusing for its label.
        """
        for item in items:
            if item.context_type in UNNAMED and not item.name:
                item.name = await self._ask(org_id, settings, item, {**auth_vars, **item.auth_vars}) or first_words(item)

    async def _ask(self, org_id: str, settings: Settings, item: LoadContextParams, auth_vars: Mapping[str, str]) -> str:
        function = _FUNCTIONS[item.context_type == NOTE]
        models = await self._roles.for_branch(org_id, settings, auth_vars)
        question = (
            Message("system", f"You name things. {function.description} {_NAME.description}"),
            Message("user", item.body[:MOST_READ]),
        )
        try:
            answer = await models.ask("names", question, function=function)
        except (Unavailable, UpstreamFailed):
            return ""
        return slug(str(answer.get("name", "")))


def first_words(item: LoadContextParams) -> str:
    """Return a name made of the beginning of a text."""
    return slug("-".join(re.findall(r"\w+", item.body[:400])[:_WORDS])) or item.context_type.replace(" ", "-")


def slug(text: str) -> str:
    """Return a text as lower-case words with dashes between them, at most 60 characters."""
    return "-".join(re.findall(r"\w+", text.lower()))[:60].strip("-")
