"""What concerns the caller alone: notifications, the referral code, the profile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, get_args

from sqlalchemy import text, tuple_, update
from sqlmodel import col, select

from core.identity.credentials import Credentials
from core.identity.tables import UserRow
from core.kernel.call import Call, Principal
from core.kernel.clock import Clock, to_timestamp
from core.kernel.errors import InvalidArgument, NotFound, PermissionDenied
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.live.events import EventBus
from core.maker.notice_stream import NoticeStream
from core.maker.notices import Notices, notification
from core.maker.people import People
from core.maker.referrals import Referrals
from core.maker.tables import UNREAD, NotificationRow
from core.storage.database import Database
from gen.busbar.maker.v1.me_pb import (
    GetReferralRequest,
    ListNotificationsRequest,
    ListNotificationsResponse,
    MarkNotificationsReadRequest,
    MarkNotificationsReadResponse,
    Referral,
    UpdateProfileRequest,
    WatchNotificationsRequest,
    WatchNotificationsResponse,
)
from gen.busbar.maker.v1.people_pb import PublicUser

Field = Literal["display_name", "bio", "avatar_url", "website_url"]
"""What clients may set."""
FIELDS: tuple[Field, ...] = get_args(Field)


class MeService:
    """Keeps what concerns the caller alone."""

    def __init__(
        self,
        database: Database,
        bus: EventBus,
        credentials: Credentials,
        clock: Clock,
        *,
        notices: Notices,
        people: People,
        referrals: Referrals,
    ) -> None:
        self._database = database
        self._bus = bus
        self._credentials = credentials
        self._clock = clock
        self._notices = notices
        self._people = people
        self._referrals = referrals

    async def list_notifications(self, request: ListNotificationsRequest, call: Call) -> ListNotificationsResponse:
        """List the caller's notifications, newest first."""
        user_id = _user(call.caller)
        limit = page_limit(request.limit if request.has_field("limit") else None)
        after = decode_cursor(request.cursor, int, str)
        query = select(NotificationRow).where(col(NotificationRow.user_id) == user_id)
        if request.unread:
            query = query.where(text(UNREAD))
        if after is not None:
            query = query.where(tuple_(col(NotificationRow.created_us), col(NotificationRow.id)) < after)
        query = query.order_by(col(NotificationRow.created_us).desc(), col(NotificationRow.id).desc()).limit(limit + 1)
        async with self._database.read() as session:
            rows = list((await session.exec(query)).all())
            unread = await self._notices.unread(session, user_id)
        cursor = encode_cursor(rows[limit - 1].created_us, rows[limit - 1].id) if len(rows) > limit else None
        shown = [notification(row) for row in rows[:limit]]
        return ListNotificationsResponse(notifications=shown, unread_count=unread, next_cursor=cursor)

    async def mark_notifications_read(self, request: MarkNotificationsReadRequest, call: Call) -> MarkNotificationsReadResponse:
        """Mark some or all of the caller's notifications as read."""
        user_id = _user(call.caller)
        if not request.ids and not request.all:
            raise InvalidArgument.field("ids", "required, unless all is true")
        marked = update(NotificationRow).where(col(NotificationRow.user_id) == user_id, text(UNREAD))
        if not request.all:
            marked = marked.where(col(NotificationRow.id).in_(request.ids))
        async with self._database.unit_of_work() as session:
            changed = (await session.exec(marked.values(read_us=self._clock.now_us()))).rowcount
            unread = await self._notices.unread(session, user_id)
        if changed:
            self._notices.read(user_id)
        return MarkNotificationsReadResponse(ok=True, unread_count=unread)

    async def watch_notifications(
        self, request: WatchNotificationsRequest, call: Call
    ) -> AsyncIterator[WatchNotificationsResponse]:
        """Tell the number of unread notifications, then what changes."""
        del request
        stream = NoticeStream(self._database, self._bus, self._credentials, self._notices, self._clock)
        async for message in stream.messages(_user(call.caller), call):
            yield message

    async def get_referral(self, request: GetReferralRequest, call: Call) -> Referral:
        """Read the caller's referral code, made at the first call."""
        del request
        row, uses = await self._referrals.code_of(_user(call.caller))
        url = f"{call.base_url}/register?ref={row.code}"
        return Referral(code=row.code, url=url, uses=uses, created_at=to_timestamp(row.created_us))

    async def update_profile(self, request: UpdateProfileRequest, call: Call) -> PublicUser:
        """Change the named fields of the caller's public page."""
        user_id, values = _user(call.caller), _named(request)
        async with self._database.unit_of_work() as session:
            user = await session.get(UserRow, user_id)
            if user is None:
                raise NotFound(f"user {user_id} not found", user=user_id)
            for name, value in values.items():
                setattr(user, name, value)
            await session.flush()
            return await self._people.public(session, user)


def _user(caller: Principal) -> str:
    if caller.user_id is None:
        raise PermissionDenied("only a user has these")
    return caller.user_id


def _named(request: UpdateProfileRequest) -> dict[str, str | None]:
    """Return the fields to change: those of the mask, or without one those that are present."""
    mask = None if request.update_mask is None else request.update_mask.paths
    names: list[Field] = [name for name in FIELDS if (request.has_field(name) if mask is None else name in mask)]
    return {name: _new_value(request, name) for name in names}


def _new_value(request: UpdateProfileRequest, name: Field) -> str | None:
    value: str | None = getattr(request, name) if request.has_field(name) else None
    if name.endswith("_url"):
        return value or None
    if value is None:
        raise InvalidArgument.field(name, "must not be null")
    if name == "display_name" and not value.strip():
        raise InvalidArgument.field(name, "must be 1-80 characters and not blank")
    return value
