"""Rules at work. Values are compared in memory; storage is asked only when a rule is about to fire: see `effects`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from sqlalchemy import text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import MICROSECONDS, Clock
from core.lab.conditions import Condition
from core.lab.hooks import THRESHOLD_EXCEEDED, Webhooks
from core.lab.log_book import LogBook
from core.lab.rules_tables import RuleRow
from core.storage.database import Database

# One statement both asks and sets, so of any number that try at once only one fires.
_CLAIM = text("""
UPDATE lab_rule SET last_triggered_us = :now
WHERE public_id = :id AND enabled AND (
    cooldown_seconds = 0 OR last_triggered_us IS NULL
    OR last_triggered_us <= :now - CAST(cooldown_seconds AS BIGINT) * 1000000
)
""")

log = structlog.get_logger("busbar.lab")


@dataclass(slots=True, eq=False)
class KnownRule:
    """What the engine needs of a rule that is enabled."""

    public_id: str
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
            row.public_id,
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

    def due(self, org_id: str, event_id: str, value: float) -> list[KnownRule]:
        """Return the rules of an event that a value meets and that do not rest, as far as memory knows."""
        rules = self._rules.get(org_id, {}).get(event_id, ())
        now = self._clock.now_us() if rules else 0
        return [rule for rule in rules if rule.due(now) and rule.condition.met_by(value)]

    def rest(self, org_id: str, rule_id: str) -> None:
        """Let a rule count as fired from here on, so that it is not asked for again."""
        rule = self._find(org_id, rule_id)
        if rule is not None:
            rule.last_us = self._clock.now_us()

    async def fire(self, session: AsyncSession, org_id: str, rule_id: str, value: float, at_us: int) -> bool:
        """Let a rule fire in the caller's unit of work; False when it rests, against what memory said.

        One that was deleted or disabled meanwhile does nothing.
        """
        rule = self._find(org_id, rule_id)
        if rule is None:
            return True
        if not await self._claim(session, rule):
            return False
        await self._act(session, rule, value, at_us)
        return True

    async def reread(self, org_ids: Iterable[str]) -> None:
        """Bring memory up to date where it was wrong about when a rule fired last. Never raises."""
        for org_id in org_ids:
            try:
                await self.refresh(org_id)
            except Exception:
                log.exception("rules could not be read")

    def _find(self, org_id: str, rule_id: str) -> KnownRule | None:
        rules = self._rules.get(org_id, {}).values()
        return next((rule for of_event in rules for rule in of_event if rule.public_id == rule_id), None)

    async def _claim(self, session: AsyncSession, rule: KnownRule) -> bool:
        connection = await session.connection()
        claimed = await connection.execute(_CLAIM, {"id": rule.public_id, "now": self._clock.now_us()})
        return claimed.rowcount == 1

    async def _act(self, session: AsyncSession, rule: KnownRule, value: float, at_us: int) -> None:
        condition = rule.condition
        if rule.action_type == "log":
            content = f"Rule '{rule.name}' triggered: value {value!r} {condition} (event {rule.event_id})."
            self._book.write(session, rule.org_id, rule.user_id, content, "warning")
            return
        payload = {
            "sensor": rule.event_id,
            "value": value,
            "rule": rule.name,
            "operator": condition.operator,
            "threshold": condition.threshold,
        }
        await self._webhooks.dispatch(session, rule.org_id, rule.webhook_event_type, payload, at_us)


def _by_event(rows: Iterable[RuleRow]) -> dict[str, tuple[KnownRule, ...]]:
    found: defaultdict[str, list[KnownRule]] = defaultdict(list)
    for row in rows:
        found[row.event_id].append(KnownRule.of(row))
    return {event_id: tuple(rules) for event_id, rules in found.items()}
