"""Rules at work. Values are compared in memory; storage is asked only when a rule is about to fire.

Values of the lab's own doors come by `evaluate`, which waits until what fires is committed. All others, such as those of pins
and metrics that are linked to an event, come by `observe`, which is called after each commit of points and must not wait: what
is to fire goes into a bounded queue.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import MICROSECONDS, Clock
from core.lab.conditions import Condition, number_of
from core.lab.event_directory import EventDirectory, KnownEvent
from core.lab.hooks import THRESHOLD_EXCEEDED, Webhooks
from core.lab.log_book import LogBook
from core.lab.rules_tables import RuleRow
from core.signals.model import Column, Event, PointsWritten
from core.signals.service import Signals
from core.storage.database import Database

BY = "lab"
"""Writer of the points that come by `evaluate`."""
MOST_WAITING = 10_000
"""Firings that may wait; further ones are dropped and counted in the log."""
MOST_TOGETHER = 256
"""Firings in one transaction."""

# One statement both asks and sets, so of any number that try at once only one fires.
_CLAIM = text("""
UPDATE lab_rule SET last_triggered_us = :now
WHERE id = :id AND enabled AND (
    cooldown_seconds = 0 OR last_triggered_us IS NULL
    OR last_triggered_us <= :now - CAST(cooldown_seconds AS BIGINT) * 1000000
)
""")

log = structlog.get_logger("busbar.lab")


@dataclass(slots=True, eq=False)
class KnownRule:
    """What the engine needs of a rule that is enabled."""

    id: int
    org_id: str
    user_id: str
    name: str
    event_id: str
    condition: Condition
    action_type: str
    webhook_event_type: str
    cooldown_us: int
    last_us: int | None

    @classmethod
    def of(cls, row: RuleRow) -> KnownRule:
        """Return the rule of a row."""
        return cls(
            row.id or 0,
            row.org_id,
            row.user_id,
            row.name,
            row.event_id,
            Condition(row.operator, row.threshold, row.threshold_high),
            row.action_type,
            row.webhook_event_type or THRESHOLD_EXCEEDED,
            row.cooldown_seconds * MICROSECONDS,
            row.last_triggered_us,
        )

    def due(self, now_us: int) -> bool:
        """Whether it may fire, as far as memory knows."""
        return not self.cooldown_us or self.last_us is None or self.last_us <= now_us - self.cooldown_us


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule, the value that met it, and when."""

    rule: KnownRule
    value: float
    at_us: int


class RuleEngine:
    """Compares values with rules, and does what those say that fire."""

    def __init__(
        self,
        database: Database,
        signals: Signals,
        events: EventDirectory,
        webhooks: Webhooks,
        book: LogBook,
        clock: Clock,
    ) -> None:
        self._database = database
        self._signals = signals
        self._events = events
        self._webhooks = webhooks
        self._book = book
        self._clock = clock
        self._rules: dict[str, dict[str, tuple[KnownRule, ...]]] = {}
        self._refreshing = asyncio.Lock()
        self._waiting: deque[Firing] = deque()
        self._dropped = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        signals.on_written(self.observe)

    async def start(self) -> None:
        """Learn about all rules and begin to fire."""
        async with self._database.read() as session:
            rows = (await session.exec(select(RuleRow).where(col(RuleRow.enabled)))).all()
        by_org: defaultdict[str, list[RuleRow]] = defaultdict(list)
        for row in rows:
            by_org[row.org_id].append(row)
        self._rules = {org_id: _by_event(found) for org_id, found in by_org.items()}
        self._task = asyncio.create_task(self._run(), name="lab-rules")

    async def stop(self) -> None:
        """Fire what waits, and end."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def refresh(self, org_id: str) -> None:
        """Learn about the rules of an organisation after a commit that changed them."""
        query = select(RuleRow).where(col(RuleRow.org_id) == org_id, col(RuleRow.enabled)).order_by(col(RuleRow.id))
        # One at a time: whoever reads last has read what was committed last.
        async with self._refreshing:
            async with self._database.read() as session:
                rows = (await session.exec(query)).all()
            self._rules[org_id] = _by_event(rows)

    async def user_forgotten(self, org_id: str, _user_id: str) -> None:
        """Learn that the rules of a user are gone."""
        await self.refresh(org_id)

    async def evaluate(self, org_id: str, event: KnownEvent, value: float, at_us: int) -> None:
        """Compare the last value of an event that a commit stored, and fire. A failure is logged and never raised."""
        firings = list(self._due(org_id, event, value, at_us))
        if firings:
            await self._fire(firings)

    def observe(self, events: Sequence[Event]) -> None:
        """Compare the last values of events whose points came by another way; called after each commit of points."""
        for event in events:
            if isinstance(event, PointsWritten) and event.by != BY and self._rules.get(event.org_id):
                self._observe(event)

    def _observe(self, written: PointsWritten) -> None:
        for known, value in self._last_values(written):
            # Times of devices are whatever their clocks say; what fires, fires now.
            for firing in self._due(written.org_id, known, value, self._clock.now_us()):
                if len(self._waiting) < MOST_WAITING:
                    self._waiting.append(firing)
                else:
                    self._dropped += 1
                self._wake.set()

    def _last_values(self, written: PointsWritten) -> Iterator[tuple[KnownEvent, float]]:
        """Yield the events of the channels in a batch, each with its newest value where that is a number."""
        newest: dict[int, tuple[int, object]] = {}
        for column in written.columns:
            channel_id = self._channel(written.org_id, column)
            if channel_id is not None and column.times_us and self._events.by_channel(channel_id):
                at_us, value = _newest(column)
                if channel_id not in newest or at_us >= newest[channel_id][0]:
                    newest[channel_id] = at_us, value
        for channel_id, (_, value) in newest.items():
            number = number_of(value)
            if number is not None:
                yield from ((event, number) for event in self._events.by_channel(channel_id))

    def _channel(self, org_id: str, column: Column) -> int | None:
        device = self._signals.find_device(org_id, column.device)
        channel = None if device is None else self._signals.find_channel(device.id, column.channel)
        return None if channel is None else channel.id

    def _due(self, org_id: str, event: KnownEvent, value: float, at_us: int) -> Iterator[Firing]:
        """Yield what is to fire. A rule with a cooldown counts as fired from here on, so that it is not asked for again."""
        now = self._clock.now_us()
        for rule in self._rules.get(org_id, {}).get(event.public_id, ()):
            if rule.due(now) and rule.condition.met_by(value):
                rule.last_us = now
                yield Firing(rule, value, at_us)

    async def _run(self) -> None:
        while not self._stopping or self._waiting:
            self._wake.clear()
            if self._dropped:
                log.warning("more rules fired than can be told", dropped=self._dropped)
                self._dropped = 0
            if self._waiting:
                await self._fire([self._waiting.popleft() for _ in range(min(MOST_TOGETHER, len(self._waiting)))])
            else:
                await self._wake.wait()

    async def _fire(self, firings: Sequence[Firing]) -> None:
        stale: set[str] = set()
        try:
            async with self._database.unit_of_work() as session:
                # In one order everywhere, so that no two transactions wait for each other.
                for firing in sorted(firings, key=lambda firing: firing.rule.id):
                    if not await self._claim(session, firing.rule):
                        stale.add(firing.rule.org_id)
                        continue
                    await self._act(session, firing)
        except Exception:
            # The points are stored and their sender was answered, or waits for that: a rule must not turn it into a failure.
            log.exception("rules could not fire", rules=[firing.rule.name for firing in firings])
            stale = {firing.rule.org_id for firing in firings}
        await self._reread(stale)

    async def _reread(self, org_ids: Iterable[str]) -> None:
        """Bring memory up to date where it was wrong about when a rule fired last."""
        for org_id in org_ids:
            try:
                await self.refresh(org_id)
            except Exception:
                log.exception("rules could not be read")

    async def _claim(self, session: AsyncSession, rule: KnownRule) -> bool:
        connection = await session.connection()
        claimed = await connection.execute(_CLAIM, {"id": rule.id, "now": self._clock.now_us()})
        return claimed.rowcount == 1

    async def _act(self, session: AsyncSession, firing: Firing) -> None:
        rule, condition = firing.rule, firing.rule.condition
        if rule.action_type == "log":
            content = f"Rule '{rule.name}' triggered: value {firing.value!r} {condition} (event {rule.event_id})."
            self._book.write(session, rule.org_id, rule.user_id, content, "warning")
            return
        payload = {
            "sensor": rule.event_id,
            "value": firing.value,
            "rule": rule.name,
            "operator": condition.operator,
            "threshold": condition.threshold,
        }
        await self._webhooks.dispatch(session, rule.org_id, rule.webhook_event_type, payload, firing.at_us)


def _by_event(rows: Iterable[RuleRow]) -> dict[str, tuple[KnownRule, ...]]:
    found: defaultdict[str, list[KnownRule]] = defaultdict(list)
    for row in rows:
        found[row.event_id].append(KnownRule.of(row))
    return {event_id: tuple(rules) for event_id, rules in found.items()}


def _newest(column: Column) -> tuple[int, object]:
    """Return time and value of the newest point, of the last one where several are equally new."""
    times = column.times_us
    at_us = max(times)
    return at_us, next(column.values[index] for index in range(len(times) - 1, -1, -1) if times[index] == at_us)
