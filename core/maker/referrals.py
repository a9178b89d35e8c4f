"""Referral codes: who recommended the server to whom."""

from __future__ import annotations

from sqlalchemy import func, text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.tables import UserRow
from core.kernel.clock import Clock
from core.kernel.errors import InvalidArgument
from core.maker.codes import new_code
from core.maker.notices import Notices
from core.maker.tables import ReferralRow, ReferralUseRow
from core.storage.database import Database

_MAKE = text("INSERT INTO referral (user_id, code, created_us) VALUES (:user_id, :code, :now) ON CONFLICT DO NOTHING")


class Referrals:
    """Makes codes, and counts who registers with them."""

    def __init__(self, database: Database, notices: Notices, clock: Clock) -> None:
        self._database = database
        self._notices = notices
        self._clock = clock

    async def code_of(self, user_id: str) -> tuple[ReferralRow, int]:
        """Return a user's code, made at the first call, and how often it was used."""
        while (found := await self._find(user_id)) is None:
            values = {"user_id": user_id, "code": new_code(), "now": self._clock.now_us()}
            # Another call may be faster, and a code may be taken: either way nothing is written, and the next look decides.
            async with self._database.unit_of_work() as session:
                await (await session.connection()).execute(_MAKE, values)
        return found

    async def _find(self, user_id: str) -> tuple[ReferralRow, int] | None:
        async with self._database.read() as session:
            row = await session.get(ReferralRow, user_id)
            if row is None:
                return None
            count = select(func.count()).select_from(ReferralUseRow).where(col(ReferralUseRow.code) == row.code)
            return row, (await session.exec(count)).one()

    async def use(self, code: str, session: AsyncSession, user: UserRow) -> None:
        """Count a registration with a code, in its unit of work, and notify whose code it is.

        Raises:
            InvalidArgument: No user has the code.
        """
        query = select(ReferralRow).where(col(ReferralRow.code) == code.strip().upper())
        row = (await session.exec(query)).one_or_none()
        if row is None:
            raise InvalidArgument.field("referral_code", "no user has this code")
        session.add(ReferralUseRow(user_id=user.id, code=row.code, used_us=self._clock.now_us()))
        await self._notices.post(
            session,
            row.user_id,
            "referral.used",
            f"{user.display_name} registered with your referral code",
            link=f"/users/{user.username}",
            data={"userId": user.id, "username": user.username},
        )
