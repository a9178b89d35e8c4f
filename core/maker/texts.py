"""Texts that must say something."""

from __future__ import annotations

from core.kernel.errors import InvalidArgument


def required_text(name: str, text: str, most: int) -> str:
    """Return a text that must not be blank.

    Raises:
        InvalidArgument: It is.
    """
    if not text.strip():
        raise InvalidArgument.field(name, f"must be 1-{most} characters and not blank")
    return text
