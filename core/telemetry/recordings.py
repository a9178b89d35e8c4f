"""Sessions and runs are one thing, recordings of the signals foundation. Here is what both of their services do with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from core.kernel.call import Principal
from core.kernel.clock import Clock
from core.kernel.errors import Aborted, AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from core.signals.checks import Scope
from core.signals.model import Device
from core.signals.service import Signals
from core.signals.tables import RecordingRow
from core.telemetry.access import may_see

KINDS = ("session", "run")
ACTIVE, COMPLETED = "active", "completed"
_STORED, _TOLD = {ACTIVE: "running"}, {"running": ACTIVE}
_GONE = "~"
"""Stands for a source that was deleted; no source has such a name."""
_OLDER = {"started": ACTIVE, "ended": COMPLETED}
_TRIES = 5
_SCAN = 200


@dataclass(slots=True)
class Draft:
    """What may change about a recording; status is `active`, `completed` or `aborted`."""

    name: str
    status: str
    started_us: int
    ended_us: int | None = None
    device_id: int | None = None
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, row: RecordingRow) -> Draft:
        """Return the draft that changes nothing."""
        return cls(row.name, status_of(row), row.started_us, row.ended_us, row.device_id, json.loads(row.attributes))

    def end(self, status: str, ended_us: int | None, now_us: int) -> None:
        """Close it, by default as completed and now, or open it again with the status `active`.

        Raises:
            InvalidArgument: It would end before it started, or be active with an end.
        """
        if status == ACTIVE:
            if ended_us is not None:
                raise InvalidArgument.field("ended_at", "must be left out while the status is active")
            self.status, self.ended_us = ACTIVE, None
        elif status or ended_us is not None:
            self.status = status or (COMPLETED if self.status == ACTIVE else self.status)
            if ended_us is not None:
                self.ended_us = ended_us
            elif self.ended_us is None:
                self.ended_us = max(now_us, self.started_us)
        if self.ended_us is not None and self.ended_us < self.started_us:
            raise InvalidArgument.field("ended_at", "must not be before started_at")


@dataclass(slots=True)
class Save:
    """A recording that a client names by an id of its own: to open, to look up, or in the older form to close.

    Attributes:
        at_us: When it started or, with a status that closes, ended.
        duration_us: How long it was, of one that is closed.
        attributes: What else the client told; only what it did tell.
    """

    external_id: str
    kind: str
    name: str
    source: str
    status: str
    at_us: int | None
    duration_us: int = 0
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])


class RecordingKeeper:
    """Opens, closes, judges, finds and lists sessions and runs."""

    def __init__(self, signals: Signals, clock: Clock) -> None:
        self._signals = signals
        self._clock = clock
        self._rows = signals.recordings

    async def find(self, caller: Principal, identity: str) -> RecordingRow:
        """Return a session or run by its own id or by the id that a client chose.

        Raises:
            NotFound: There is none, or none that the caller may see.
        """
        row = await self._rows.find(caller.org_id, identity)
        if row is None or row.kind not in KINDS or not self._visible(caller, row):
            raise NotFound(f"recording {identity} not found", recording=identity)
        return row

    async def create(self, caller: Principal, draft: Draft, *, kind: str, external_id: str | None = None) -> RecordingRow:
        """Open a recording; one that is over already is judged.

        Raises:
            AlreadyExists: The id is taken.
        """
        now = self._clock.now_us()
        draft.attributes |= {"created_by": caller.user_id or caller.credential_id, "created_us": now, "updated_us": now}
        await self._judge(caller.org_id, draft, None)
        return await self._rows.create(
            caller.org_id,
            external_id,
            name=draft.name,
            kind=kind,
            device_id=draft.device_id,
            started_us=draft.started_us,
            attributes=draft.attributes,
            status=_STORED.get(draft.status, draft.status),
            ended_us=draft.ended_us,
        )

    async def change(self, caller: Principal, identity: str, edit: Callable[[Draft], None]) -> RecordingRow:
        """Change a recording and judge it anew where that may come out otherwise.

        Raises:
            NotFound: There is none that the caller may see.
            Aborted: Others changed it again and again meanwhile.
        """
        for _ in range(_TRIES):
            before = await self.find(caller, identity)
            old = Draft.of(before)
            draft = deepcopy(old)
            edit(draft)
            if draft == old:
                return before
            if _verdict_basis(draft) != _verdict_basis(old):
                await self._judge(caller.org_id, draft, before.id)
            draft.attributes["updated_us"] = self._clock.now_us()
            # Judging takes its time outside of the transaction, so what was judged must still be what is there.
            after = await self._rows.replace(before, **_columns(draft))
            if after is not None:
                return after
        raise Aborted("the recording was changed by others meanwhile")

    async def save(self, caller: Principal, wish: Save) -> tuple[RecordingRow, bool]:
        """Do what an older client wants with its id; return the recording and whether it is new. Sources come into being."""
        source = await self.source(caller, wish.source, create=True)
        device_id = None if source is None else source.id
        for _ in range(_TRIES):
            found = await self._rows.find(caller.org_id, wish.external_id)
            if found is not None:
                if found.kind not in KINDS or not self._visible(caller, found):
                    raise AlreadyExists(f"{wish.external_id} already exists and is none of yours")
                return await self.change(caller, wish.external_id, lambda draft: self._follow(draft, wish, device_id)), False
            try:
                draft = self._begin(wish, device_id)
                return await self.create(caller, draft, kind=wish.kind, external_id=wish.external_id), True
            except AlreadyExists:
                continue
        raise Aborted("the recording was changed by others meanwhile")

    def _begin(self, wish: Save, device_id: int | None) -> Draft:
        status = _OLDER.get(wish.status, wish.status) or ACTIVE
        at = self._clock.now_us() if wish.at_us is None else wish.at_us
        draft = Draft(wish.name, ACTIVE, at, None, device_id, dict(wish.attributes))
        if status != ACTIVE:
            draft.started_us = at - wish.duration_us
            draft.end(status, at, at)
        return draft

    def _follow(self, draft: Draft, wish: Save, device_id: int | None) -> None:
        status = _OLDER.get(wish.status, wish.status)
        draft.name = wish.name or draft.name
        draft.device_id = device_id if draft.device_id is None else draft.device_id
        draft.attributes |= wish.attributes
        if status in ("", ACTIVE):
            # A start that is sent again does not open again what has ended meanwhile.
            if wish.at_us is not None and draft.ended_us is None:
                draft.started_us = wish.at_us
            return
        # The clocks of older clients have whole seconds only, so an end may seem to be before the start.
        end = None if wish.at_us is None else max(wish.at_us, draft.started_us)
        draft.end(status, end, self._clock.now_us())

    async def source(self, caller: Principal, slug: str, *, create: bool = False) -> Device | None:
        """Return a source by its slug; None for an empty one, which a credential of one source cannot mean.

        Raises:
            NotFound: There is none that the caller may see, and none is to be made.
            PermissionDenied: The credential is bound to another source.
        """
        slug = slug or caller.bound_to or ""
        if not slug:
            return None
        if caller.bound_to not in (None, slug):
            raise PermissionDenied(f"this token is bound to the source {caller.bound_to}")
        device = self._signals.find_device(caller.org_id, slug)
        if device is None and create:
            device = await self._signals.ensure_device(caller.org_id, slug)
        if device is None or not may_see(caller, device.slug):
            raise NotFound(f"source {slug} not found", source=slug)
        return device

    def slug(self, row: RecordingRow) -> str | None:
        """Return the slug of a recording's source."""
        device = None if row.device_id is None else self._signals.get_device(row.device_id)
        return None if device is None else device.slug

    async def list(self, caller: Principal, *, source: str, status: str, label: str, limit: int) -> list[RecordingRow]:
        """Return sessions and runs that the caller may see, the last started first; empty texts choose all."""
        device_id = None
        if slug := source or caller.bound_to:
            device = self._signals.find_device(caller.org_id, slug)
            if device is None or not may_see(caller, device.slug):
                return []
            device_id = device.id
        found: list[RecordingRow] = []
        offset, stored = 0, _STORED.get(status, status) or None
        while len(found) < limit:
            # Labels are JSON of the client's making, so they are looked at here and not in the database.
            rows, _ = await self._rows.list(
                caller.org_id, kind=KINDS, device_id=device_id, status=stored, offset=offset, limit=_SCAN
            )
            found += [row for row in rows if self._visible(caller, row) and (not label or label in labels_of(row))]
            offset += _SCAN
            if len(rows) < _SCAN:
                break
        return found[:limit]

    async def delete(self, caller: Principal, identity: str) -> None:
        """Delete a recording; its points stay.

        Raises:
            NotFound: There is none that the caller may see.
        """
        await self._rows.delete(await self.find(caller, identity))

    def _visible(self, caller: Principal, row: RecordingRow) -> bool:
        return may_see(caller, self.slug(row))

    async def _judge(self, org_id: str, draft: Draft, recording_id: int | None) -> None:
        """Write how the criteria of a recording fared; one that is active or has none has no result."""
        draft.attributes.pop("test_result", None)
        criteria: list[dict[str, Any]] = draft.attributes.get("pass_criteria", [])
        if not criteria or draft.ended_us is None:
            return
        results = [await self._judge_one(org_id, draft, recording_id, criterion) for criterion in criteria]
        passed = all(result["passed"] for result in results)
        draft.attributes["test_result"] = {"passed": passed, "criteria": results}

    async def _judge_one(
        self, org_id: str, draft: Draft, recording_id: int | None, criterion: dict[str, Any]
    ) -> dict[str, Any]:
        device = None if draft.device_id is None else self._signals.get_device(draft.device_id)
        compared: tuple[str, str, float] = (criterion["metric"], criterion["operator"], criterion["value"])
        metric, operator, value = compared
        # A session may span sources, so what carries it is looked for in all of them.
        tagged, ranged = Scope(recording_id), Scope(None, draft.started_us, draft.ended_us or 0)
        checked = None
        if recording_id is not None:
            checked = await self._signals.check(org_id, None, metric, tagged, operator, value)
        if checked is None or not checked.total:
            # A source that is gone has no values; those of others are none of its own.
            slug = None if draft.device_id is None else _GONE if device is None else device.slug
            checked = await self._signals.check(org_id, slug, metric, ranged, operator, value)
        result = criterion | {"passed": checked.total > 0 and checked.failed_us is None, "count": checked.total}
        if checked.failed_us is not None:
            result |= {"failed_at": checked.failed_us / 1000, "failed_value": checked.failed}
        return result


def status_of(row: RecordingRow) -> str:
    """Return `active`, `completed` or `aborted`."""
    return _TOLD.get(row.status, row.status)


def labels_of(row: RecordingRow) -> set[str]:
    """Return the labels of a recording: members of lists, and names, values and `name:value` of objects."""
    attributes: dict[str, Any] = json.loads(row.attributes)
    found: set[str] = set()
    for kept in (attributes.get("labels"), attributes.get("tags")):
        if isinstance(kept, dict):
            pairs: list[tuple[str, Any]] = list(kept.items())  # pyright: ignore[reportUnknownArgumentType] - any JSON
            found |= {text for name, value in pairs for text in (name, str(value), f"{name}:{value}")}
        elif isinstance(kept, list):
            found |= {str(label) for label in kept}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        elif kept is not None:
            found.add(str(kept))
    return found


def _verdict_basis(draft: Draft) -> tuple[Any, ...]:
    return draft.started_us, draft.ended_us, draft.device_id, draft.attributes.get("pass_criteria")


def _columns(draft: Draft) -> dict[str, object]:
    return {
        "name": draft.name,
        "status": _STORED.get(draft.status, draft.status),
        "started_us": draft.started_us,
        "ended_us": draft.ended_us,
        "device_id": draft.device_id,
        "attributes": json.dumps(draft.attributes),
    }
