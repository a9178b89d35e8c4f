"""How sources are named, and which of them a caller may see within their organisation."""

from __future__ import annotations

from core.kernel.call import Principal
from core.kernel.errors import InvalidArgument
from core.telemetry.decode import SOURCE_ID


def may_see(caller: Principal, slug: str | None) -> bool:
    """Whether a caller may see a source of their organisation; None stands for what belongs to no source.

    A credential that is bound to one source sees that one; a key for some boards sees those.
    """
    if caller.bound_to is not None:
        return slug == caller.bound_to
    return caller.board_ids is None or slug in caller.board_ids


def require_slug(field: str, slug: str) -> None:
    """Check what would become the slug of a source.

    Raises:
        InvalidArgument: It is none.
    """
    if not SOURCE_ID.fullmatch(slug):
        raise InvalidArgument.field(field, "must be lower case letters, digits, '.', '_' and '-', at most 256")
