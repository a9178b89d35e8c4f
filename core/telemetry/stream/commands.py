"""Commands on their way from people to devices: who may send which, where they go, and the record of all of them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import structlog
from sqlalchemy import update
from sqlmodel import col, select

from core.kernel.call import Principal
from core.kernel.clock import Clock
from core.kernel.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from core.kernel.ids import new_id
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.storage.database import Database
from core.telemetry.access import may_see
from core.telemetry.stream.hub import Hub, Link
from core.telemetry.stream.shapes import SHELL, Members, command_of, shape
from core.telemetry.tables import CommandAuditRow
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.telemetry.v1.stream_pb import ListCommandsRequest, ListCommandsResponse, SentCommand

DELIVERED, NOT_CONNECTED, BUSY, REFUSED = "delivered", "not_connected", "busy", "refused"
MOST_RUNS = 10_000
"""Commands whose answers are awaited; the one sent longest ago is forgotten first."""
LONGEST_COMMAND = 256
LONGEST_OUTCOME = 64
LONGEST_SOURCE = 256

log = structlog.get_logger("busbar.stream")


@dataclass(slots=True)
class _Run:
    """A command whose device may still tell how it goes; `seq` is the number of what it told last."""

    record: str | None
    seq: float = -1.0


class Commands:
    """Sends commands to connected devices."""

    def __init__(self, hub: Hub, database: Database, clock: Clock, *, shell: bool) -> None:
        self.shell = shell
        self._hub = hub
        self._database = database
        self._clock = clock
        self._runs: OrderedDict[tuple[str, str, str], _Run] = OrderedDict()

    async def send(self, sender: Principal, kind: str, members: Members) -> tuple[str, str]:
        """Send a command; return what became of it and the id by which the device answers.

        Nothing is kept for a device that is not there. Every command is recorded before it leaves, whatever becomes of it.

        Raises:
            InvalidArgument: It names no source.
            PermissionDenied: The sender may not send it.
            FailedPrecondition: The server does not allow it.
        """
        source = members.get("source_id")
        source_id = source if isinstance(source, str) else ""
        link = self._hub.find(sender.org_id, source_id)
        if not source_id and kind in SHELL:
            link = self._hub.only(sender.org_id)
            source_id = "" if link is None else link.source_id
        name = command_of(kind, members)
        try:
            self._check(sender, name, source_id)
        except DomainError:
            await self._record(sender, source_id, name, REFUSED)
            raise
        if link is None:
            await self._record(sender, source_id, name, NOT_CONNECTED)
            return NOT_CONNECTED, ""
        record = await self._record(sender, source_id, name, DELIVERED)
        command = shape(kind, members, source_id, typed=link.typed)
        outcome = self._deliver(link, kind, command, record)
        if outcome != DELIVERED:
            await self._note_outcome(record, outcome)
        return outcome, _identity(command)

    def _deliver(self, link: Link, kind: str, command: Members, record: str) -> str:
        # The connection may have been replaced while the record was written.
        present = self._hub.find(link.org_id, link.source_id)
        if present is None or present.typed is not link.typed:
            return NOT_CONNECTED
        identity = _identity(command)
        if identity:
            self._await(present, identity, _Run(record))
        if not present.deliver(command):
            return BUSY
        self._hub.note_command(present, kind, command)
        return DELIVERED

    def _check(self, sender: Principal, name: str, source_id: str) -> None:
        if not source_id:
            raise InvalidArgument("source_id required", field="source_id")
        if sender.role == "viewer" or not (sender.may("commands") or sender.may("write")):
            raise PermissionDenied("insufficient scope: commands required", reason=ErrorReason.SCOPE_MISSING, scope="commands")
        if not may_see(sender, source_id):
            raise NotFound(f"source {source_id} not found", source=source_id)
        if name in SHELL:
            if not self.shell:
                raise FailedPrecondition(f"{name} is turned off on this server")
            if not sender.may("write"):
                raise PermissionDenied("insufficient scope: write required", reason=ErrorReason.SCOPE_MISSING, scope="write")

    async def follow(self, link: Link, identity: str, seq: float, state: str) -> bool:
        """Record what a device tells about a command; return whether it is news rather than told again."""
        run = self._runs.get((link.org_id, link.source_id, identity))
        if run is None:
            run = self._await(link, identity, _Run(None))
        if seq <= run.seq:
            return False
        if run.record is not None and state:
            await self._note_outcome(run.record, state)
        run.seq = seq
        return True

    async def answered(self, link: Link, identity: str, state: str) -> None:
        """Record how a command ended on a device that does not number what it tells."""
        run = self._runs.get((link.org_id, link.source_id, identity))
        if run is not None and run.record is not None:
            await self._note_outcome(run.record, state)

    def _await(self, link: Link, identity: str, run: _Run) -> _Run:
        self._runs[link.org_id, link.source_id, identity] = run
        if len(self._runs) > MOST_RUNS:
            self._runs.popitem(last=False)
        return run

    async def _record(self, sender: Principal, source_id: str, name: str, outcome: str) -> str:
        row = CommandAuditRow(
            id=new_id("cmd_"),
            org_id=sender.org_id,
            source_id=source_id[:LONGEST_SOURCE],
            credential_id=sender.credential_id,
            user_id=sender.user_id,
            command=name[:LONGEST_COMMAND],
            outcome=outcome,
            at_us=self._clock.now_us(),
        )
        identity = row.id
        async with self._database.unit_of_work() as session:
            session.add(row)
        return identity

    async def _note_outcome(self, record: str, outcome: str) -> None:
        async with self._database.unit_of_work() as session:
            statement = update(CommandAuditRow).where(col(CommandAuditRow.id) == record)
            await session.exec(statement.values(outcome=outcome[:LONGEST_OUTCOME]))

    async def list(self, caller: Principal, request: ListCommandsRequest) -> ListCommandsResponse:
        """Return a page of the record."""
        row = CommandAuditRow
        limit = page_limit(request.limit if request.has_field("limit") else None)
        statement = select(row).where(col(row.org_id) == caller.org_id)
        if request.source_id:
            statement = statement.where(col(row.source_id) == request.source_id)
        if caller.bound_to is not None:
            statement = statement.where(col(row.source_id) == caller.bound_to)
        if caller.board_ids is not None:
            statement = statement.where(col(row.source_id).in_(sorted(caller.board_ids)))
        if (key := decode_cursor(request.cursor, int, str)) is not None:
            at_us, identity = key
            older = (col(row.at_us) == at_us) & (col(row.id) < identity)
            statement = statement.where((col(row.at_us) < at_us) | older)
        async with self._database.read() as session:
            ordered = statement.order_by(col(row.at_us).desc(), col(row.id).desc()).limit(limit + 1)
            rows = (await session.exec(ordered)).all()
        page = rows[:limit]
        cursor = encode_cursor(page[-1].at_us, page[-1].id) if len(rows) > limit else None
        return ListCommandsResponse(commands=[_told(found) for found in page], next_cursor=cursor)


def _identity(command: Members) -> str:
    identity = command.get("run_id") or command.get("id")
    return identity if isinstance(identity, str) else ""


def _told(row: CommandAuditRow) -> SentCommand:
    return SentCommand(
        id=row.id,
        source_id=row.source_id,
        command=row.command,
        outcome=row.outcome,
        credential_id=row.credential_id,
        user_id=row.user_id,
        timestamp=row.at_us / 1000,
    )
