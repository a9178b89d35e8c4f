"""What follows from stored values, kept until it is done: rules that fire, and readings that webhooks are told.

An effect is a row in the transaction that stores its value, and is deleted in the one that holds what came of it: the cooldown,
the log entry, the deliveries. So a crash between the two loses none and repeats none. Whoever deletes the row is the one that
acts, so workers on one database may try the same ones.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy import delete
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import Unavailable
from core.lab.hooks import SENSOR_READING, Webhooks
from core.lab.points_watch import READING, RULE, PointsWatch
from core.lab.readings import Readings
from core.lab.rule_engine import RuleEngine
from core.lab.rules_tables import EffectRow
from core.signals.model import Event, PointsWritten
from core.signals.service import Signals
from core.storage.bulk import BulkInsert
from core.storage.database import Database
from core.storage.tx import Tx

MOST_WAITING = 10_000
"""Effects in memory; further ones wait in storage alone."""
MOST_TOGETHER = 256
"""Effects in one transaction."""
SWEEP_SECONDS = 30.0
"""How often storage is asked for what was left, and how old that is: what failed, and what another process left behind."""

_INSERT = BulkInsert(
    "lab_effect",
    {
        "id": "text",
        "org_id": "text",
        "kind": "text",
        "subject": "text",
        "value": "double precision",
        "at_us": "bigint",
        "created_us": "bigint",
    },
    "",
)

log = structlog.get_logger("busbar.lab")


@dataclass(frozen=True, slots=True, eq=False)
class Effect:
    """Something that is to follow from a stored value; see EffectRow.

    Attributes:
        done: Set when it was tried.
    """

    id: str
    org_id: str
    kind: str
    subject: str
    value: float
    at_us: int
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, row: EffectRow) -> Effect:
        """Return the effect of a row."""
        return cls(row.id, row.org_id, row.kind, row.subject, row.value, row.at_us)


class Effects:
    """Writes effects with the values, and carries them out after the commit."""

    def __init__(
        self,
        database: Database,
        signals: Signals,
        watch: PointsWatch,
        engine: RuleEngine,
        webhooks: Webhooks,
        *,
        readings: Readings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._watch = watch
        self._engine = engine
        self._webhooks = webhooks
        self._readings = readings
        self._clock = clock
        self._waiting: deque[Effect] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        signals.on_writing(self.keep)
        signals.on_written(self.observe)

    async def start(self) -> None:
        """Begin to work, with what a stop left."""
        self._task = asyncio.create_task(self._run(), name="lab-effects")

    async def stop(self) -> None:
        """Do what waits, and end."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def keep(self, tx: Tx, written: PointsWritten) -> list[Effect]:
        """Write what follows from a batch into its transaction."""
        found = [Effect(uuid.uuid4().hex, written.org_id, *finding) for finding in self._watch.look(written)]
        if found:
            now = self._clock.now_us()
            flat: list[object] = []
            for one in found:
                flat += (one.id, one.org_id, one.kind, one.subject, one.value, one.at_us, now)
            await _INSERT.execute(tx, flat)
        return found

    def observe(self, events: Sequence[Event]) -> None:
        """Take over the effects of a commit."""
        for event in events:
            for note in event.notes if isinstance(event, PointsWritten) else ():
                if isinstance(note, Effect):
                    self._take_over(note)

    async def settled(self, notes: Iterable[object]) -> None:
        """Wait until effects were tried."""
        for note in notes:
            if isinstance(note, Effect):
                await note.done.wait()

    def _take_over(self, effect: Effect) -> None:
        if effect.kind == RULE:
            self._engine.rest(effect.org_id, effect.subject)
        if self._task is None or self._task.done() or len(self._waiting) >= MOST_WAITING:
            # It is stored, and is found there.
            effect.done.set()
            return
        self._waiting.append(effect)
        self._wake.set()

    async def _run(self) -> None:
        await self._sweep(self._clock.now_us())
        time = asyncio.get_running_loop().time
        swept = time()
        while not self._stopping or self._waiting:
            self._wake.clear()
            if self._waiting:
                await self._carry_out([self._waiting.popleft() for _ in range(min(MOST_TOGETHER, len(self._waiting)))])
            else:
                await self._woken()
            if time() >= swept + SWEEP_SECONDS:
                swept = time()
                await self._sweep(self._clock.now_us() - int(SWEEP_SECONDS * MICROSECONDS))

    async def _woken(self) -> None:
        try:
            async with asyncio.timeout(SWEEP_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _sweep(self, before_us: int) -> None:
        """Carry out what lies in storage from before a time, until there is no more or something fails. Never raises."""
        order = col(EffectRow.created_us), col(EffectRow.id)
        query = select(EffectRow).where(col(EffectRow.created_us) <= before_us).order_by(*order).limit(MOST_TOGETHER)
        try:
            while not self._stopping:
                async with self._database.read() as session:
                    found = [Effect.of(row) for row in (await session.exec(query)).all()]
                for org_id in {effect.org_id for effect in found}:
                    # They may be of rules and webhooks that another process made.
                    await self._engine.refresh(org_id)
                    await self._webhooks.refresh(org_id)
                if not found or not await self._carry_out(found):
                    return
        except Exception:
            # The next sweep finds them, and what comes meanwhile must be done.
            log.exception("effects could not be read")

    async def _carry_out(self, effects: Sequence[Effect]) -> bool:
        """Do what is to be done, in one transaction where nothing fails; return whether nothing did. Never raises."""
        try:
            await self._engine.reread(await self._together(effects))
        except Exception as error:
            if len(effects) > 1 and not isinstance(error, Unavailable):
                return all([await self._carry_out([effect]) for effect in effects])
            # The values are stored and their sender was answered, or waits for that: it must not turn into a failure.
            log.exception("effects failed and are tried again later", effects=[(one.kind, one.subject) for one in effects])
            await self._forget(effects)
            return False
        finally:
            for effect in effects:
                effect.done.set()
        return True

    async def _together(self, effects: Sequence[Effect]) -> set[str]:
        """Do some in one transaction; return the organisations about whose rules memory was wrong."""
        stale: set[str] = set()
        ids = [effect.id for effect in effects]
        async with self._database.unit_of_work() as session:
            connection = await session.connection()
            taken = await connection.execute(delete(EffectRow).where(col(EffectRow.id).in_(ids)).returning(col(EffectRow.id)))
            mine = set(taken.scalars())
            # Rules in one order everywhere, so that no two transactions wait for each other.
            for effect in sorted((effect for effect in effects if effect.id in mine), key=_order):
                if effect.kind == READING:
                    await self._tell(session, effect)
                elif not await self._engine.fire(session, effect.org_id, effect.subject, effect.value, effect.at_us):
                    stale.add(effect.org_id)
        return stale

    async def _tell(self, session: AsyncSession, effect: Effect) -> None:
        if self._readings.due(effect.subject, effect.at_us):
            self._readings.told(effect.subject, effect.at_us)
            payload = {"sensor": effect.subject, "value": effect.value}
            await self._webhooks.dispatch(session, effect.org_id, SENSOR_READING, payload, effect.at_us)

    async def _forget(self, effects: Sequence[Effect]) -> None:
        """Let the next values count, since these came to nothing so far."""
        for effect in effects:
            if effect.kind == READING:
                self._readings.forget(effect.subject)
        await self._engine.reread({effect.org_id for effect in effects if effect.kind == RULE})


def _order(effect: Effect) -> str:
    return "" if effect.kind == READING else effect.subject
