"""Rate limits: exact sliding windows, in memory of this process."""

from __future__ import annotations

import time
from collections import OrderedDict, deque

from core.kernel.errors import ResourceExhausted

MOST_KEYS = 100_000
"""Keys remembered at once; the one used longest ago is forgotten first, so a flood of addresses cannot eat the memory."""


class Limiter:
    """Counts calls by key."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self._calls: OrderedDict[tuple[object, ...], deque[float]] = OrderedDict()

    def check(self, key: tuple[object, ...], requests: int, window_seconds: float) -> None:
        """Count one call. A refused call is not counted.

        Raises:
            ResourceExhausted: The window holds as many as it may; `retry_after` tells when the oldest leaves it.
        """
        wait = self.wait(key, requests, window_seconds)
        if wait > 0:
            raise ResourceExhausted(
                "too many requests, try again later", retry_after=wait, limit=requests, window_seconds=window_seconds
            )
        self.count(key, requests)

    def wait(self, key: tuple[object, ...], requests: int, window_seconds: float) -> float:
        """Return the seconds until one more call fits; 0 when it fits now."""
        if not self.enabled:
            return 0.0
        calls = self._calls.get(key)
        if calls is None:
            return 0.0
        now = time.monotonic()
        while calls and calls[0] <= now - window_seconds:
            calls.popleft()
        return calls[0] + window_seconds - now if len(calls) >= requests else 0.0

    def count(self, key: tuple[object, ...], requests: int) -> None:
        """Count one call without asking whether it fits."""
        if not self.enabled:
            return
        calls = self._calls.get(key)
        if calls is None:
            calls = self._calls[key] = deque(maxlen=max(requests, 1))
            if len(self._calls) > MOST_KEYS:
                self._calls.popitem(last=False)
        else:
            self._calls.move_to_end(key)
        calls.append(time.monotonic())
