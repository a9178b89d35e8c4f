"""A user's notifications as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from core.identity.credentials import Credentials
from core.identity.lease import Lease
from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.errors import ResourceExhausted, Unauthenticated
from core.live.events import EventBus, Lagged, Policy
from core.maker.events import NotificationsChanged, user_topic
from core.maker.notices import Notices, notification
from core.maker.tables import NotificationRow
from core.storage.database import Database
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.maker.v1.me_pb import WatchNotificationsResponse

QUEUED_EVENTS = 256
"""Events that may wait for a slow reader before it is told to start again."""


class NoticeStream:
    """Streams the notifications of users."""

    def __init__(self, database: Database, bus: EventBus, credentials: Credentials, notices: Notices, clock: Clock) -> None:
        self._database = database
        self._bus = bus
        self._credentials = credentials
        self._notices = notices
        self._clock = clock

    async def messages(self, user_id: str, call: Call) -> AsyncGenerator[WatchNotificationsResponse]:
        """Yield the number of unread notifications, then every change, until the caller's credential ends."""
        events = self._bus.subscribe(user_topic(user_id), policy=Policy.LAGGED, size=QUEUED_EVENTS)
        ended: list[bool] = []

        def end() -> None:
            ended.append(True)
            events.close()

        lease = Lease(self._credentials, self._clock, call.caller, call.credential or "", end)
        try:
            yield await self._message(user_id, None)
            async for _, event in events:
                if isinstance(event, Lagged):
                    raise ResourceExhausted("the reader is too slow", reason=ErrorReason.LAGGED)
                if isinstance(event, NotificationsChanged):
                    yield await self._message(user_id, event.notification_id)
            if ended:
                raise Unauthenticated("the credential has ended")
        finally:
            lease.close()
            events.close()

    async def _message(self, user_id: str, notification_id: str | None) -> WatchNotificationsResponse:
        async with self._database.read() as session:
            row = None if notification_id is None else await session.get(NotificationRow, notification_id)
            unread = await self._notices.unread(session, user_id)
        return WatchNotificationsResponse(notification=None if row is None else notification(row), unread_count=unread)
