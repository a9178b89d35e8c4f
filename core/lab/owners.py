"""Who owns what is made in the lab."""

from __future__ import annotations

from core.kernel.call import Call
from core.kernel.errors import PermissionDenied


def owner_of(call: Call, thing: str) -> str:
    """Return the user who will own a new thing, such as `a rule`.

    Raises:
        PermissionDenied: The credential belongs to no user.
    """
    user_id = call.caller.user_id
    if user_id is None:
        raise PermissionDenied(f"only a user can own {thing}")
    return user_id
