"""Notifications. Causes put them into the outbox in their unit of work; the worker makes each once and tells it live."""

from __future__ import annotations

import json
from typing import TypedDict, Unpack

from protobuf.wkt import Struct
from sqlalchemy import func, text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.tables import MembershipRow
from core.kernel.clock import to_timestamp
from core.live.events import EventBus
from core.maker.events import NotificationsChanged, user_topic
from core.maker.tables import UNREAD, NotificationRow
from core.outbox.delivery import Delivery, Handler
from core.outbox.outbox import Outbox
from core.storage.database import Database
from core.storage.tx import Tx
from gen.busbar.maker.v1.me_pb import Notification

KIND = "maker.notice"
"""Kind of the side effects that make notifications."""
KINDS = frozenset({
    "collaborator.added",
    "review.received",
    "purchase.completed",
    "sale.completed",
    "assignment.published",
    "submission.received",
    "submission.graded",
    "certificate.issued",
    "board.offline",
    "ota.finished",
    "referral.used",
    "system",
})  # fmt: skip
MOST_TITLE, MOST_BODY = 160, 2000

_INSERT = """
INSERT INTO notification (id, user_id, kind, title, body, link, data, created_us)
SELECT $1, id, $3, $4, $5, $6, $7, $8 FROM user_account WHERE id = $2
ON CONFLICT (id) DO NOTHING
"""


class More(TypedDict, total=False):
    """What a notification says besides its title.

    Attributes:
        body: Text to show.
        link: Where it leads, relative to the site.
        data: What programs read.
        once: Names the cause: however often it is posted, its user is notified once.
    """

    body: str
    link: str | None
    data: dict[str, object]
    once: str | None


class Notices:
    """Posts notifications, makes them, and counts the unread ones."""

    def __init__(self, database: Database, outbox: Outbox, bus: EventBus) -> None:
        self._database = database
        self._outbox = outbox
        self._bus = bus
        self.handler = Handler(self._make)

    async def post(self, session: AsyncSession, user_id: str, kind: str, title: str, **more: Unpack[More]) -> None:
        """Notify a user once the caller's unit of work is committed. Title and body are cut to what a notification holds.

        Raises:
            ValueError: There is no such kind of notification.
        """
        if kind not in KINDS:
            raise ValueError(f"there are no notifications of kind {kind}")
        payload = {
            "user_id": user_id,
            "kind": kind,
            "title": title[:MOST_TITLE],
            "body": more.get("body", "")[:MOST_BODY],
            "link": more.get("link"),
            "data": more.get("data") or {},
        }
        home = select(MembershipRow.org_id).where(col(MembershipRow.user_id) == user_id)
        org_id = (await session.exec(home.order_by(col(MembershipRow.created_us)).limit(1))).first()
        await self._outbox.enqueue(session, KIND, payload, org_id or "", subject=user_id, dedupe_key=more.get("once"))

    async def _make(self, delivery: Delivery) -> None:
        """Make the notification unless an earlier attempt did, and tell its user."""
        made = delivery.json()
        notification_id = f"ntf_{delivery.id}"

        async def insert(tx: Tx) -> int:
            return await tx.execute(
                _INSERT,
                notification_id,
                made["user_id"],
                made["kind"],
                made["title"],
                made["body"],
                made["link"],
                json.dumps(made["data"], ensure_ascii=False),
                delivery.created_us,
            )

        if await self._database.submit(insert):
            self._bus.publish(user_topic(made["user_id"]), NotificationsChanged(notification_id))

    async def unread(self, session: AsyncSession, user_id: str) -> int:
        """Return the number of a user's unread notifications."""
        query = select(func.count()).select_from(NotificationRow).where(col(NotificationRow.user_id) == user_id)
        return (await session.exec(query.where(text(UNREAD)))).one()

    def read(self, user_id: str) -> None:
        """Tell a user's watchers, after the commit, that some notifications were read."""
        self._bus.publish(user_topic(user_id), NotificationsChanged())


def notification(row: NotificationRow) -> Notification:
    """Return a notification as its user sees it."""
    return Notification(
        id=row.id,
        kind=row.kind,
        title=row.title,
        body=row.body,
        link=row.link,
        data=Struct.from_python(json.loads(row.data)),
        read_at=to_timestamp(row.read_us),
        created_at=to_timestamp(row.created_us),
    )
