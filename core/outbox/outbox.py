"""Side effects as their causes and their owners see them: enqueue with the cause, list, send again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypedDict, TypeVar, Unpack

from sqlalchemy import delete, event, func, text
from sqlalchemy.orm import Session
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from core.kernel.clock import Clock
from core.kernel.errors import FailedPrecondition, NotFound
from core.kernel.ids import new_id
from core.outbox.tables import DEAD_LETTER, PENDING, OutboxRow
from core.storage.tx import Tx, fetch_one

T = TypeVar("T")

MAX_ATTEMPTS = 8
_ENQUEUED = "busbar_outbox"
_COLUMNS = (
    "id",
    "org_id",
    "kind",
    "subject",
    "payload",
    "state",
    "attempts",
    "max_attempts",
    "next_attempt_us",
    "created_us",
    "dedupe_key",
)


def _insert(placeholder: Callable[[int, str], str]) -> str:
    values = ", ".join(placeholder(index, name) for index, name in enumerate(_COLUMNS, 1))
    names = ", ".join(_COLUMNS)
    return f"INSERT INTO outbox ({names}) VALUES ({values}) ON CONFLICT DO NOTHING RETURNING id"  # noqa: S608 - constants


_INSERT_NAMED = text(_insert(lambda _, name: f":{name}"))
_INSERT_NUMBERED = _insert(lambda index, _: f"${index}")
_SAME = "SELECT id FROM outbox WHERE org_id = $1 AND kind = $2 AND dedupe_key = $3"


class Options(TypedDict, total=False):
    """How a side effect departs from the ordinary.

    Attributes:
        id: Its own id, where those who see it expect another form than the usual one.
        subject: Id of what it belongs to.
        max_attempts: Attempts after which it becomes a dead letter.
        delay_us: Microseconds to wait before the first attempt.
        dedupe_key: Names the side effect: an organisation has one of each kind and key.
    """

    id: str
    subject: str
    max_attempts: int
    delay_us: int
    dedupe_key: str | None


class Outbox:
    """Side effects of all organisations. Every function names the organisation whose rows it touches."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._listeners: list[Callable[[], None]] = []

    def on_enqueue(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a listener after every commit that enqueued something in this process; returns how to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def notify(self) -> None:
        """Tell workers of this process that something is due. Call it after the commit of a job that used `enqueue_job`."""
        for listener in self._listeners:
            listener()

    async def enqueue(self, session: AsyncSession, kind: str, payload: object, org_id: str, **options: Unpack[Options]) -> str:
        """Write a side effect into the caller's unit of work, and return its id.

        It is carried out after the commit, and never when the unit of work is rolled back. With a `dedupe_key` that the
        organisation has used for this kind, nothing is written and the id of the earlier row is returned.
        """
        values = self._values(kind, payload, org_id, options)
        connection = await session.connection()
        written = (await connection.execute(_INSERT_NAMED, values)).scalar_one_or_none()
        self._notify_after_commit(session.sync_session)
        if written is not None:
            return str(written)
        query = select(OutboxRow.id).where(
            OutboxRow.org_id == org_id, OutboxRow.kind == kind, OutboxRow.dedupe_key == values["dedupe_key"]
        )
        return (await session.exec(query)).one()

    async def enqueue_job(self, tx: Tx, kind: str, payload: object, org_id: str, **options: Unpack[Options]) -> str:
        """Do the same within a job of the group-commit writer. Call `notify` when the job is committed."""
        values = self._values(kind, payload, org_id, options)
        row = await fetch_one(tx, _INSERT_NUMBERED, *(values[name] for name in _COLUMNS))
        row = row or await fetch_one(tx, _SAME, org_id, kind, values["dedupe_key"])
        if row is None:
            raise NotFound("the earlier side effect of this key was deleted meanwhile")
        return str(row[0])

    def _values(self, kind: str, payload: object, org_id: str, options: Options) -> dict[str, Any]:
        now = self._clock.now_us()
        return {
            "id": options.get("id") or new_id("out_"),
            "org_id": org_id,
            "kind": kind,
            "subject": options.get("subject", ""),
            "payload": json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False),
            "state": PENDING,
            "attempts": 0,
            "max_attempts": options.get("max_attempts", MAX_ATTEMPTS),
            "next_attempt_us": now + options.get("delay_us", 0),
            "created_us": now,
            "dedupe_key": options.get("dedupe_key"),
        }

    def _notify_after_commit(self, session: Session) -> None:
        if session.info.get(_ENQUEUED):
            return
        session.info[_ENQUEUED] = True

        def committed(_session: Session) -> None:
            self.notify()

        event.listen(session, "after_commit", committed)

    async def get(self, session: AsyncSession, org_id: str, row_id: str) -> OutboxRow:
        """Return one side effect.

        Raises:
            NotFound: The organisation has none of that id.
        """
        row = await session.get(OutboxRow, row_id)
        if row is None or row.org_id != org_id:
            raise NotFound(f"delivery {row_id} not found", delivery=row_id)
        return row

    async def list(
        self,
        session: AsyncSession,
        org_id: str,
        *,
        kind: str | None = None,
        subject: str | None = None,
        states: tuple[str, ...] = (),
        offset: int = 0,
        limit: int = 50,
    ) -> list[OutboxRow]:
        """Return side effects of an organisation, newest first. An empty `states` takes all of them."""
        query = _narrowed(select(OutboxRow), org_id, kind, subject, states)
        newest = query.order_by(col(OutboxRow.created_us).desc(), col(OutboxRow.id).desc())
        return list((await session.exec(newest.offset(offset).limit(limit))).all())

    async def count(
        self,
        session: AsyncSession,
        org_id: str,
        *,
        kind: str | None = None,
        subject: str | None = None,
        states: tuple[str, ...] = (),
    ) -> int:
        """Return how many `list` would return without its limit."""
        counted = select(func.count()).select_from(OutboxRow)
        return (await session.exec(_narrowed(counted, org_id, kind, subject, states))).one()

    async def redeliver(self, session: AsyncSession, org_id: str, row_id: str) -> OutboxRow:
        """Give a dead letter all of its attempts anew, the first of them at once.

        Raises:
            NotFound: The organisation has none of that id.
            FailedPrecondition: It is no dead letter.
        """
        row = await self.get(session, org_id, row_id)
        if row.state != DEAD_LETTER:
            raise FailedPrecondition(f"delivery {row_id} is {row.state}, only a dead letter can be sent again", state=row.state)
        row.state, row.attempts, row.lease = PENDING, 0, None
        row.next_attempt_us = self._clock.now_us()
        session.add(row)
        self._notify_after_commit(session.sync_session)
        return row

    async def forget(self, session: AsyncSession, org_id: str, subject: str) -> None:
        """Delete all side effects of a subject, those not carried out yet among them."""
        await session.exec(delete(OutboxRow).where(col(OutboxRow.org_id) == org_id, col(OutboxRow.subject) == subject))


def _narrowed(
    query: SelectOfScalar[T], org_id: str, kind: str | None, subject: str | None, states: tuple[str, ...]
) -> SelectOfScalar[T]:
    query = query.where(OutboxRow.org_id == org_id)
    if kind is not None:
        query = query.where(OutboxRow.kind == kind)
    if subject is not None:
        query = query.where(OutboxRow.subject == subject)
    return query.where(col(OutboxRow.state).in_(states)) if states else query
