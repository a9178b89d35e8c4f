"""Rules at work. Values are compared in memory; storage is asked only when a rule is about to fire."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import MICROSECONDS, Clock
from core.lab.conditions import Condition
from core.lab.event_directory import KnownEvent
from core.lab.hooks import THRESHOLD_EXCEEDED, Webhooks
from core.lab.log_book import LogBook
from core.lab.rules_tables import RuleRow
from core.storage.database import Database

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
        webhooks: Webhooks,
        book: LogBook,
        clock: Clock,
    ) -> None:
        self._database = database
        self._webhooks = webhooks
        self._book = book
        self._clock = clock
        self._rules: dict[str, dict[str, tuple[KnownRule, ...]]] = {}
        self._refreshing = asyncio.Lock()

    async def start(self) -> None:
        """Learn about all rules."""
        async with self._database.read() as session:
            rows = (await session.exec(select(RuleRow).where(col(RuleRow.enabled)))).all()
        by_org: defaultdict[str, list[RuleRow]] = defaultdict(list)
        for row in rows:
            by_org[row.org_id].append(row)
        self._rules = {org_id: _by_event(found) for org_id, found in by_org.items()}

    async def refresh(self, org_id: str) -> None:
        """Learn about the rules of an organisation after a commit that changed them."""
        query = select(RuleRow).where(col(RuleRow.org_id) == org_id, col(RuleRow.enabled)).order_by(col(RuleRow.id))
        # One at a time: whoever reads last has read what was committed last.
        async with self._refreshing:
            async with self._database.read() as session:
                rows = (await session.exec(query)).all()
            self._rules[org_id] = _by_event(rows)

    def has_rules(self, org_id: str) -> bool:
        """Whether an organisation has any rule that is enabled."""
        return bool(self._rules.get(org_id))

    async def user_forgotten(self, org_id: str, _user_id: str) -> None:
        """Learn that the rules of a user are gone."""
        await self.refresh(org_id)

    async def evaluate(self, org_id: str, event: KnownEvent, value: float, at_us: int) -> None:
        """Compare the last value of an event that a commit stored, and fire. A failure is logged and never raised."""
        firings = list(self.due(org_id, event, value, at_us))
        if firings:
            await self.fire(firings)

    def due(self, org_id: str, event: KnownEvent, value: float, at_us: int) -> Iterator[Firing]:
        """Yield what is to fire. A rule with a cooldown counts as fired from here on, so that it is not asked for again."""
        now = self._clock.now_us()
        for rule in self._rules.get(org_id, {}).get(event.public_id, ()):
            if rule.due(now) and rule.condition.met_by(value):
                rule.last_us = now
                yield Firing(rule, value, at_us)

    async def fire(self, firings: Sequence[Firing]) -> None:
        """Do what rules say that are due, in one transaction. A failure is logged and never raised."""
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
