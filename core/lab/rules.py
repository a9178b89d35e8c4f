"""Rules: what to do when a value crosses a threshold."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call
from core.kernel.clock import MICROSECONDS, Clock, from_timestamp, to_exact_timestamp
from core.kernel.errors import DomainError, InvalidArgument, NotFound
from core.kernel.patches import named_values
from core.lab import rule_trial
from core.lab.conditions import Condition
from core.lab.event_directory import EventDirectory, KnownEvent
from core.lab.experiment_directory import ExperimentDirectory
from core.lab.ids import already_exists, new_public_id, not_found
from core.lab.owners import owner_of
from core.lab.paging import page_of, read_page
from core.lab.rule_engine import RuleEngine
from core.lab.rules_tables import RuleRow
from core.signals.service import Signals
from core.signals.stretches import Stretch
from core.storage.database import Database
from core.storage.errors import is_unique_violation
from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.rules_pb import (
    CreateRuleRequest,
    DeleteRuleRequest,
    Firing,
    GetRuleRequest,
    ListRulesRequest,
    ListRulesResponse,
    Rule,
    TryRule,
    TryRuleRequest,
    TryRuleResponse,
    UpdateRuleRequest,
)

COOLDOWN_SECONDS = 60
"""Silence after a firing, where a rule states none."""


class RuleService:
    """Keeps rules, and tries them out on stored points."""

    def __init__(
        self,
        database: Database,
        signals: Signals,
        events: EventDirectory,
        experiments: ExperimentDirectory,
        engine: RuleEngine,
        clock: Clock,
    ) -> None:
        self._database = database
        self._signals = signals
        self._events = events
        self._experiments = experiments
        self._engine = engine
        self._clock = clock

    async def list_rules(self, request: ListRulesRequest, call: Call) -> ListRulesResponse:
        """List rules in the order in which they were made."""
        page = page_of(request)
        query = select(RuleRow).where(col(RuleRow.org_id) == call.caller.org_id).order_by(col(RuleRow.id))
        async with self._database.read() as session:
            rows, total = await read_page(session, query, page)
        return ListRulesResponse(page=page.number, page_size=page.size, total=total, data=[_message(row) for row in rows])

    async def create_rule(self, request: CreateRuleRequest, call: Call) -> StatusResponse:
        """Make a rule of the caller."""
        org_id = call.caller.org_id
        row = RuleRow(
            public_id=new_public_id(),
            org_id=org_id,
            user_id=owner_of(call, "a rule"),
            name=request.name,
            event_id=self._event(org_id, request.event_public_id).public_id,
            operator=request.operator,
            threshold=request.threshold,
            threshold_high=request.threshold_high if request.has_field("threshold_high") else None,
            action_type=request.action_type,
            webhook_event_type=request.webhook_event_type or None,
            enabled=request.enabled if request.has_field("enabled") else True,
            cooldown_seconds=_cooldown(request),
            created_us=self._clock.now_us(),
        )
        try:
            async with self._database.unit_of_work() as session:
                session.add(row)
        except IntegrityError as error:
            raise _refusal(error, row.event_id) from error
        await self._engine.refresh(org_id)
        return StatusResponse(status="success", message="Rule successfully created.")

    async def get_rule(self, request: GetRuleRequest, call: Call) -> Rule:
        """Read a rule."""
        async with self._database.read() as session:
            return _message(await _find(session, call.caller.org_id, request.public_id))

    async def update_rule(self, request: UpdateRuleRequest, call: Call) -> StatusResponse:
        """Change the named fields; the rule as a whole must hold afterwards."""
        org_id, values = call.caller.org_id, _changes(request)
        try:
            async with self._database.unit_of_work() as session:
                row = await _find(session, org_id, request.public_id, lock=True)
                if "event_id" in values:
                    self._event(org_id, values["event_id"])
                for name, value in values.items():
                    setattr(row, name, value)
                fault = Condition(row.operator, row.threshold, row.threshold_high).fault()
                if fault is not None:
                    raise InvalidArgument(fault)
        except IntegrityError as error:
            raise _refusal(error, request.event_public_id) from error
        await self._engine.refresh(org_id)
        return StatusResponse(status="success", message="Rule successfully updated.")

    async def delete_rule(self, request: DeleteRuleRequest, call: Call) -> StatusResponse:
        """Delete a rule."""
        org_id = call.caller.org_id
        async with self._database.unit_of_work() as session:
            await session.delete(await _find(session, org_id, request.public_id, lock=True))
        await self._engine.refresh(org_id)
        return StatusResponse(status="success", message="Rule successfully deleted.")

    async def try_rule(self, request: TryRuleRequest, call: Call) -> TryRuleResponse:
        """Tell when a rule would have fired; writes nothing."""
        org_id = call.caller.org_id
        event, trial = await self._trial(request, org_id)
        stretches = await self._points(request, org_id, event)
        await rule_trial.run(self._signals.numbers.sweep(stretches, rule_trial.PAGE), trial)
        return TryRuleResponse(
            firings=[Firing(timestamp=to_exact_timestamp(at_us), value=value) for at_us, value in trial.firings],
            total=trial.total,
            examined=trial.examined,
        )

    async def _trial(self, request: TryRuleRequest, org_id: str) -> tuple[KnownEvent, rule_trial.Trial]:
        """Return the event whose points to look at, and the rule to show them to."""
        if request.rule is not None:
            return self._event(org_id, request.rule.event_public_id), _trial_of(request.rule)
        async with self._database.read() as session:
            row = await _find(session, org_id, request.rule_public_id)
        condition = Condition(row.operator, row.threshold, row.threshold_high)
        return self._event(org_id, row.event_id), rule_trial.Trial(condition, row.cooldown_seconds * MICROSECONDS)

    async def _points(self, request: TryRuleRequest, org_id: str, event: KnownEvent) -> list[Stretch]:
        """Return where the points are to look at."""
        now = self._clock.now_us()
        if not request.experiment_public_id:
            until = from_timestamp(request.until)
            return [Stretch(event.channel_id, from_timestamp(request.since) or 0, now if until is None else until)]
        row = await self._signals.recordings.find(org_id, request.experiment_public_id)
        if row is None or self._experiments.by_id(row.id) is None:
            raise not_found("Experiment", request.experiment_public_id)
        chosen = await self._signals.select_recording(row, None, None, None, None)
        return [stretch for stretch in chosen.stretches if stretch.channel_id == event.channel_id]

    def _event(self, org_id: str, public_id: str) -> KnownEvent:
        event = self._events.by_public_id(org_id, public_id)
        if event is None:
            raise NotFound("Event not found.", event=public_id)
        return event

    async def forget_events(self, session: AsyncSession, org_id: str, event_ids: Collection[str]) -> None:
        """Delete the rules of events that are deleted in the caller's unit of work."""
        await session.exec(delete(RuleRow).where(col(RuleRow.org_id) == org_id, col(RuleRow.event_id).in_(event_ids)))

    async def forget_user(self, session: AsyncSession, org_id: str, user_id: str) -> None:
        """Delete the rules of a user."""
        await session.exec(delete(RuleRow).where(col(RuleRow.org_id) == org_id, col(RuleRow.user_id) == user_id))


async def _find(session: AsyncSession, org_id: str, public_id: str, *, lock: bool = False) -> RuleRow:
    query = select(RuleRow).where(col(RuleRow.public_id) == public_id, col(RuleRow.org_id) == org_id)
    row = (await session.exec(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise not_found("Rule", public_id)
    return row


def _refusal(error: IntegrityError, event_id: str) -> DomainError:
    """Return what a race was lost against: a name that was taken meanwhile, or an event that was deleted."""
    return already_exists("Rule") if is_unique_violation(error) else NotFound("Event not found.", event=event_id)


def _changes(request: UpdateRuleRequest) -> dict[str, Any]:
    """Return the new values of columns."""
    values = named_values(
        request,
        "name",
        "event_public_id",
        "operator",
        "threshold",
        "threshold_high",
        "action_type",
        "webhook_event_type",
        "enabled",
        "cooldown_seconds",
        nullable=("threshold_high", "webhook_event_type"),
    )
    if "event_public_id" in values:
        values["event_id"] = values.pop("event_public_id")
    return values


def _cooldown(rule: CreateRuleRequest | TryRule) -> int:
    return rule.cooldown_seconds if rule.has_field("cooldown_seconds") else COOLDOWN_SECONDS


def _trial_of(rule: TryRule) -> rule_trial.Trial:
    high = rule.threshold_high if rule.has_field("threshold_high") else None
    return rule_trial.Trial(Condition(rule.operator, rule.threshold, high), _cooldown(rule) * MICROSECONDS)


def _message(row: RuleRow) -> Rule:
    return Rule(
        public_id=row.public_id,
        name=row.name,
        event_public_id=row.event_id,
        operator=row.operator,
        threshold=row.threshold,
        threshold_high=row.threshold_high,
        action_type=row.action_type,
        webhook_event_type=row.webhook_event_type,
        enabled=row.enabled,
        cooldown_seconds=row.cooldown_seconds,
        last_triggered_at=to_exact_timestamp(row.last_triggered_us),
        created_on=to_exact_timestamp(row.created_us),
        user_public_id=row.user_id,
    )
