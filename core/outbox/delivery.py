"""What a worker and the handlers of side effects agree on."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from core.kernel.clock import MICROSECONDS


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to carry out a side effect.

    Attributes:
        id: The same in every attempt; send it along, so that the receiver can drop repeats.
        org_id: Organisation to which the side effect belongs.
        kind: Kind under which it was enqueued.
        subject: Id of what it belongs to.
        payload: JSON text, exactly as it was enqueued.
        attempt: Number of this attempt, from 1.
        max_attempts: Attempts after which it is given up.
        created_us: When it was enqueued.
    """

    id: str
    org_id: str
    kind: str
    subject: str
    payload: str
    attempt: int
    max_attempts: int
    created_us: int

    def json(self) -> Any:  # noqa: ANN401 - whatever was enqueued
        """Return the payload as it was enqueued."""
        return json.loads(self.payload)


class AttemptFailed(Exception):
    """An attempt brought nothing; a later one may.

    Attributes:
        message: Why, fit to be shown to the owner.
        response_code: Status of the answer, if there was one.
    """

    def __init__(self, message: str, response_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.response_code = response_code


class PermanentFailure(AttemptFailed):
    """No later attempt can succeed: the row becomes a dead letter at once."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after a failed attempt.

    Attributes:
        first: Seconds after the first attempt.
        factor: By how much each wait is longer than the one before.
        most: Seconds that no wait exceeds, but for the jitter.
        jitter: Largest part of the wait that is added by chance, so that what failed together does not return together.
    """

    first: float = 2.0
    factor: float = 2.0
    most: float = 600.0
    jitter: float = 0.1

    def delay_us(self, attempt: int) -> int:
        """Return the wait after an attempt, in microseconds; attempts count from 1."""
        # The exponent is capped where any sensible base has passed the longest wait, since a float overflows beyond.
        seconds = min(self.most, self.first * self.factor ** min(attempt - 1, 64))
        return int(seconds * (1 + self.jitter * random.random()) * MICROSECONDS)  # noqa: S311 - spreads load, keeps no secret


@dataclass(frozen=True, slots=True)
class Handler:
    """How one kind of side effect is carried out.

    Attributes:
        run: Carries it out; returns the status of the answer or None. Raises AttemptFailed to be called again later. It may run
            more than once for one row: after a crash nobody knows how far it came.
        seconds: Limit for one attempt.
        backoff: How long to wait between attempts.
    """

    run: Callable[[Delivery], Awaitable[int | None]]
    seconds: float = 10.0
    backoff: Backoff = field(default_factory=Backoff)
