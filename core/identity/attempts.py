"""Failed sign-ins, counted alike wherever a password is taken, so that no page is an easier place to guess."""

from __future__ import annotations

from core.kernel.errors import ResourceExhausted
from core.kernel.limits import Limiter

FAILURES, FAILURE_WINDOW = 10, 600
"""Failed sign-ins of one account or address before it must wait, and the seconds in which they count."""


class SignInAttempts:
    """Counts failures against the account and against the network address."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    def check(self, login: str, address: str) -> None:
        """Refuse a further try. Raises ResourceExhausted."""
        wait = max(self._limiter.wait(key, FAILURES, FAILURE_WINDOW) for key in _keys(login, address))
        if wait > 0:
            raise ResourceExhausted("too many failed sign-ins, try again later", retry_after=wait)

    def failed(self, login: str, address: str) -> None:
        """Count a failure."""
        for key in _keys(login, address):
            self._limiter.count(key, FAILURES)


def _keys(login: str, address: str) -> list[tuple[str, str]]:
    return [("login-account", login.strip().lower()), ("login-address", address)]
