"""The log book as its readers see it."""

from __future__ import annotations

from sqlmodel import col, select

from core.kernel.call import Call
from core.kernel.clock import to_exact_timestamp
from core.kernel.patches import named_values
from core.lab.ids import not_found
from core.lab.log_book import LogBook
from core.lab.paging import page_of, read_page
from core.lab.tables import LogEntryRow
from core.storage.database import Database
from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.logging_pb import (
    CreateLogEntryRequest,
    GetLogEntryRequest,
    ListLogEntriesRequest,
    ListLogEntriesResponse,
    LogEntry,
    UpdateLogEntryRequest,
)


class LoggingService:
    """Lists, writes and changes log entries."""

    def __init__(self, database: Database, book: LogBook) -> None:
        self._database = database
        self._book = book

    async def list_log_entries(self, request: ListLogEntriesRequest, call: Call) -> ListLogEntriesResponse:
        """List entries, newest first; of one instant, the one written last first."""
        page = page_of(request)
        query = select(LogEntryRow).where(col(LogEntryRow.org_id) == call.caller.org_id)
        newest = query.order_by(col(LogEntryRow.created_us).desc(), col(LogEntryRow.id).desc())
        async with self._database.read() as session:
            rows, total = await read_page(session, newest, page)
        return ListLogEntriesResponse(page=page.number, page_size=page.size, total=total, data=[_message(row) for row in rows])

    async def create_log_entry(self, request: CreateLogEntryRequest, call: Call) -> StatusResponse:
        """Write an entry of the caller."""
        async with self._database.unit_of_work() as session:
            self._book.write(session, call.caller.org_id, call.caller.user_id, request.content, request.logging_type or "info")
        return StatusResponse(status="success", message="Log entry successfully created.")

    async def get_log_entry(self, request: GetLogEntryRequest, call: Call) -> LogEntry:
        """Read an entry."""
        query = select(LogEntryRow).where(
            col(LogEntryRow.public_id) == request.public_id, col(LogEntryRow.org_id) == call.caller.org_id
        )
        async with self._database.read() as session:
            row = (await session.exec(query)).one_or_none()
        if row is None:
            raise not_found("LogEntry", request.public_id)
        return _message(row)

    async def update_log_entry(self, request: UpdateLogEntryRequest, call: Call) -> StatusResponse:
        """Change the named fields; none may be null."""
        query = select(LogEntryRow).where(
            col(LogEntryRow.public_id) == request.public_id, col(LogEntryRow.org_id) == call.caller.org_id
        )
        values = named_values(request, "status_type", "content")
        async with self._database.unit_of_work() as session:
            row = (await session.exec(query)).one_or_none()
            if row is None:
                raise not_found("LogEntry", request.public_id)
            for name, value in values.items():
                setattr(row, name, value)
        return StatusResponse(status="success", message="Log entry successfully updated.")


def _message(row: LogEntryRow) -> LogEntry:
    return LogEntry(
        public_id=row.public_id,
        content=row.content,
        logging_type=row.logging_type,
        status_type=row.status_type,
        created_on=to_exact_timestamp(row.created_us),
        user_public_id=row.user_id,
    )
