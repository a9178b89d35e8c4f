"""Dashboards and the widgets on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import delete, or_, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call, Principal
from core.kernel.clock import Clock, to_exact_timestamp
from core.kernel.errors import NotFound, PermissionDenied
from core.kernel.patches import named_values
from core.lab.event_directory import EventDirectory
from core.lab.ids import new_public_id, not_found
from core.lab.owners import owner_of
from core.lab.paging import page_of, read_page
from core.lab.rules_tables import DashboardRow, WidgetRow
from core.storage.database import Database
from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.dashboards_pb import (
    CreateDashboardRequest,
    CreateWidgetRequest,
    Dashboard,
    DeleteDashboardRequest,
    DeleteWidgetRequest,
    GetDashboardRequest,
    ListDashboardsRequest,
    ListDashboardsResponse,
    UpdateDashboardRequest,
    UpdateWidgetRequest,
    Widget,
)

WIDTH, HEIGHT = 4, 3
"""Size of a widget that states none."""


class DashboardService:
    """Keeps dashboards."""

    def __init__(self, database: Database, events: EventDirectory, clock: Clock) -> None:
        self._database = database
        self._events = events
        self._clock = clock

    async def list_dashboards(self, request: ListDashboardsRequest, call: Call) -> ListDashboardsResponse:
        """List the caller's own and the global dashboards, newest first."""
        page, caller = page_of(request), call.caller
        seen = or_(col(DashboardRow.user_id) == caller.user_id, col(DashboardRow.is_global))
        query = select(DashboardRow).where(col(DashboardRow.org_id) == caller.org_id, seen)
        newest = query.order_by(col(DashboardRow.created_us).desc(), col(DashboardRow.id).desc())
        async with self._database.read() as session:
            rows, total = await read_page(session, newest, page)
            data = await _messages(session, rows)
        return ListDashboardsResponse(page=page.number, page_size=page.size, total=total, data=data)

    async def create_dashboard(self, request: CreateDashboardRequest, call: Call) -> Dashboard:
        """Make a dashboard of the caller."""
        row = DashboardRow(
            public_id=new_public_id(),
            org_id=call.caller.org_id,
            user_id=owner_of(call, "a dashboard"),
            name=request.name,
            is_global=request.is_global,
            created_us=self._clock.now_us(),
        )
        async with self._database.unit_of_work() as session:
            session.add(row)
        return _message(row, [])

    async def get_dashboard(self, request: GetDashboardRequest, call: Call) -> Dashboard:
        """Read a dashboard of the caller or a global one. Being an administrator does not open those of others."""
        async with self._database.read() as session:
            row = await _find(session, call.caller.org_id, request.public_id)
            if not row.is_global and row.user_id != call.caller.user_id:
                raise PermissionDenied("Not allowed.")
            return (await _messages(session, [row]))[0]

    async def update_dashboard(self, request: UpdateDashboardRequest, call: Call) -> StatusResponse:
        """Change the named fields."""
        values = named_values(request, "name", "is_global")
        async with self._database.unit_of_work() as session:
            row = await _changeable(session, call.caller, request.public_id)
            for name, value in values.items():
                setattr(row, name, value)
        return StatusResponse(status="success", message="Dashboard successfully updated.")

    async def delete_dashboard(self, request: DeleteDashboardRequest, call: Call) -> StatusResponse:
        """Delete a dashboard; its widgets go with it."""
        async with self._database.unit_of_work() as session:
            row = await _changeable(session, call.caller, request.public_id)
            await session.delete(row)
        return StatusResponse(status="success", message="Dashboard successfully deleted.")

    async def create_widget(self, request: CreateWidgetRequest, call: Call) -> Widget:
        """Put a widget on a dashboard."""
        async with self._with_event() as session:
            dashboard = await _changeable(session, call.caller, request.dashboard_id)
            row = WidgetRow(
                public_id=new_public_id(),
                dashboard_id=dashboard.id or 0,
                widget_type=request.widget_type,
                title=request.title,
                event_id=self._event(call, request.event_public_id if request.has_field("event_public_id") else None),
                x=request.x,
                y=request.y,
                w=request.w if request.has_field("w") else WIDTH,
                h=request.h if request.has_field("h") else HEIGHT,
                config_json=request.config_json if request.has_field("config_json") else None,
            )
            session.add(row)
        return _widget(row)

    async def update_widget(self, request: UpdateWidgetRequest, call: Call) -> StatusResponse:
        """Change the named fields of a widget."""
        plain = ("title", "x", "y", "w", "h", "config_json")
        values = named_values(request, "event_public_id", *plain, nullable=("event_public_id", "config_json"))
        async with self._with_event() as session:
            row = await _widget_on(session, call.caller, request.dashboard_id, request.widget_id)
            if "event_public_id" in values:
                values["event_id"] = self._event(call, values.pop("event_public_id"))
            for name, value in values.items():
                setattr(row, name, value)
        return StatusResponse(status="success", message="Widget successfully updated.")

    async def delete_widget(self, request: DeleteWidgetRequest, call: Call) -> StatusResponse:
        """Take a widget off its dashboard."""
        async with self._database.unit_of_work() as session:
            row = await _widget_on(session, call.caller, request.dashboard_id, request.widget_id)
            await session.delete(row)
        return StatusResponse(status="success", message="Widget successfully deleted.")

    @asynccontextmanager
    async def _with_event(self) -> AsyncGenerator[AsyncSession]:
        """Open a unit of work that may meet an event which is being deleted."""
        try:
            async with self._database.unit_of_work() as session:
                yield session
        except IntegrityError as error:
            raise NotFound("Event not found.") from error

    def _event(self, call: Call, public_id: str | None) -> str | None:
        if public_id is not None and self._events.by_public_id(call.caller.org_id, public_id) is None:
            raise NotFound("Event not found.", event=public_id)
        return public_id

    async def forget_events(self, session: AsyncSession, _org_id: str, event_ids: Collection[str]) -> None:
        """Unlink widgets from events that are deleted in the caller's unit of work."""
        await session.exec(update(WidgetRow).where(col(WidgetRow.event_id).in_(event_ids)).values(event_id=None))

    async def forget_user(self, session: AsyncSession, org_id: str, user_id: str) -> None:
        """Delete the dashboards of a user."""
        mine = col(DashboardRow.org_id) == org_id, col(DashboardRow.user_id) == user_id
        await session.exec(delete(DashboardRow).where(*mine))


async def _find(session: AsyncSession, org_id: str, public_id: str, *, lock: bool = False) -> DashboardRow:
    query = select(DashboardRow).where(col(DashboardRow.public_id) == public_id, col(DashboardRow.org_id) == org_id)
    row = (await session.exec(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise not_found("Dashboard", public_id)
    return row


async def _changeable(session: AsyncSession, caller: Principal, public_id: str) -> DashboardRow:
    """Return a dashboard that the caller may change: their own, or as an administrator any; locked until the commit."""
    row = await _find(session, caller.org_id, public_id, lock=True)
    if caller.role != "admin" and row.user_id != caller.user_id:
        raise PermissionDenied("Not allowed.")
    return row


async def _widget_on(session: AsyncSession, caller: Principal, dashboard_id: str, widget_id: str) -> WidgetRow:
    dashboard = await _changeable(session, caller, dashboard_id)
    query = (
        select(WidgetRow)
        .join(DashboardRow, col(DashboardRow.id) == col(WidgetRow.dashboard_id))
        .where(col(WidgetRow.public_id) == widget_id, col(DashboardRow.org_id) == caller.org_id)
    )
    row = (await session.exec(query)).one_or_none()
    if row is None:
        raise not_found("DashboardWidget", widget_id)
    if row.dashboard_id != dashboard.id:
        raise NotFound("Widget not on this dashboard.", widget=widget_id)
    return row


async def _messages(session: AsyncSession, rows: Sequence[DashboardRow]) -> list[Dashboard]:
    """Return dashboards with their widgets, which are read at once for all."""
    ids = [row.id for row in rows]
    query = select(WidgetRow).where(col(WidgetRow.dashboard_id).in_(ids)).order_by(col(WidgetRow.id))
    on: defaultdict[int | None, list[WidgetRow]] = defaultdict(list)
    for widget in (await session.exec(query)).all():
        on[widget.dashboard_id].append(widget)
    return [_message(row, on[row.id]) for row in rows]


def _message(row: DashboardRow, widgets: Iterable[WidgetRow]) -> Dashboard:
    return Dashboard(
        public_id=row.public_id,
        name=row.name,
        is_global=row.is_global,
        created_on=to_exact_timestamp(row.created_us),
        user_public_id=row.user_id,
        widgets=[_widget(widget) for widget in widgets],
    )


def _widget(row: WidgetRow) -> Widget:
    return Widget(
        public_id=row.public_id,
        widget_type=row.widget_type,
        title=row.title,
        event_public_id=row.event_id,
        x=row.x,
        y=row.y,
        w=row.w,
        h=row.h,
        config_json=row.config_json,
    )
