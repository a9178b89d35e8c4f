"""What anybody may read without an account."""

from __future__ import annotations

from sqlmodel import col, select

from core.identity.tables import UserRow
from core.kernel.call import Call
from core.kernel.errors import NotFound
from core.kernel.pages import page_limit
from core.maker.people import People
from core.maker.project_lists import feed
from core.maker.project_views import ProjectViews
from core.storage.database import Database
from gen.busbar.maker.v1.people_pb import PublicUser
from gen.busbar.maker.v1.public_pb import GetPublicUserRequest, ListProjectFeedRequest, ListProjectFeedResponse

FEED_LIMIT, MOST_FEED = 20, 100


class PublicService:
    """Shows what is public."""

    def __init__(self, database: Database, views: ProjectViews, people: People) -> None:
        self._database = database
        self._views = views
        self._people = people

    async def list_project_feed(self, request: ListProjectFeedRequest, call: Call) -> ListProjectFeedResponse:
        """List public projects; for somebody who is signed in, with their role in each."""
        limit = page_limit(request.limit if request.has_field("limit") else None, default=FEED_LIMIT, most=MOST_FEED)
        user_id = None if call.principal is None else call.principal.user_id
        async with self._database.read() as session:
            page = await feed(session, request.sort or "recent", request.cursor, limit)
            projects = await self._views.page(session, page.rows, user_id)
        call.headers.append(("Cache-Control", "public, max-age=30" if call.principal is None else "private, no-cache"))
        # A shared cache must not hand the answer for nobody to somebody who is signed in.
        call.headers.append(("Vary", "Authorization, Cookie"))
        return ListProjectFeedResponse(projects=projects, next_cursor=page.next_cursor)

    async def get_public_user(self, request: GetPublicUserRequest, call: Call) -> PublicUser:
        """Read a user's public page."""
        del call
        async with self._database.read() as session:
            query = select(UserRow).where(col(UserRow.username) == request.username.lower())
            user = (await session.exec(query)).one_or_none()
            if user is None:
                raise NotFound(f"user {request.username} not found", user=request.username)
            return await self._people.public(session, user)
