"""Drives one release of the SDK. Runs in that release's environment, which has neither this project nor its libraries.

Reads one JSON object a line: {"do": NAME, ...arguments}. Answers each with {"answer": ...} or {"raised": CLASS, "text": ...}.
"""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

from plexus import Plexus  # pyright: ignore[reportAttributeAccessIssue, reportMissingImports]
from plexus.config import RetryConfig  # pyright: ignore[reportAttributeAccessIssue, reportMissingImports]

NOBODY = "ws://127.0.0.1:9"
"""Where no server listens: releases that prefer a socket then do what they do behind a proxy without one, and use HTTP."""


class Driver:
    """Carries out commands."""

    client: Any

    def open(self, source_id: str, retries: int = 0) -> bool:
        """Make a client that uses HTTP."""
        known = inspect.signature(Plexus.__init__).parameters
        over_http = {"transport": "http", "ws_url": NOBODY, "persistent_buffer": True}
        retry = RetryConfig(max_retries=retries, base_delay=0.05, max_delay=0.2)
        self.client = Plexus(
            source_id=source_id, retry_config=retry, **{name: value for name, value in over_http.items() if name in known}
        )
        if hasattr(self.client, "_ws_auth_waited"):
            # The first send would wait five seconds for a socket that never opens.
            self.client._ws_auth_waited = True
        return True

    def send(self, metric: str, value: Any, timestamp: float | None = None) -> bool:
        """Send one value."""
        return self.client.send(metric, value, timestamp=timestamp)

    def send_batch(self, points: list[list[Any]], timestamp: float | None = None) -> bool:
        """Send several values of one time."""
        return self.client.send_batch([tuple(point) for point in points], timestamp=timestamp)

    def buffered(self) -> int:
        """Return how many points wait."""
        return self.client.buffer_size()

    def flush(self) -> bool:
        """Send what waits."""
        return self.client.flush_buffer()

    def close(self) -> bool:
        """Close the client."""
        self.client.close()
        return True


def main() -> None:
    """Answer until the input ends."""
    driver = Driver()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"answer": getattr(driver, command.pop("do"))(**command)}
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is the answer
            answer = {"raised": type(error).__name__, "text": str(error)}
        print(json.dumps(answer), flush=True)  # noqa: T201 - the other side of the pipe reads it


if __name__ == "__main__":
    main()
