"""Messages that many connections are told.

What a door makes of such a message, its JSON for instance, is made once and lives as long as the message, so that one more
connection costs no more than the bytes it is sent.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar
from weakref import ref

from protobuf import Message

M = TypeVar("M", bound=Message[Any])

Forms = dict[Hashable, "str | bytes"]

_forms: dict[int, tuple[ref[Message[Any]], Forms]] = {}
"""By identity, since messages compare by value; an entry goes together with its message, before another can take its place."""


def share(message: M) -> M:
    """Declare that a message goes to many connections, and is not changed any more; return it."""
    identity = id(message)

    def forget(_gone: object) -> None:
        _forms.pop(identity, None)

    _forms[identity] = (ref(message, forget), {})
    return message


def forms_of(message: object) -> Forms | None:
    """Return what was made of a shared message, by who made it; None for a message of one connection."""
    found = _forms.get(id(message))
    return None if found is None else found[1]
