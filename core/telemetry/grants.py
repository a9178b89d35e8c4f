"""Device grants: a device without a keyboard asks for a key, and its user allows it in a browser.

The key is made when the device fetches it, so that it is never in storage except as a hash.
"""

from __future__ import annotations

import secrets
from typing import Literal, cast

from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from core.identity.credentials import Credentials
from core.identity.secrets import hash_secret
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.ids import new_id
from core.storage.database import Database
from core.telemetry.keys import CLIENT_SCOPES
from core.telemetry.tables import DeviceGrantRow
from gen.busbar.api.v1.options_pb import CredentialKind

GRANT_SECONDS = 900
POLL_SECONDS = 5
REMEMBERED_US = 24 * 3600 * MICROSECONDS
"""How long an ended grant is kept."""

USER_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ23456789"
"""Without vowels, so that no words come out, and without characters that look alike."""

State = Literal["pending", "allowed", "denied", "ended"]


class DeviceGrants:
    """Keeps grants from their start until their key is fetched."""

    def __init__(self, database: Database, credentials: Credentials, clock: Clock) -> None:
        self._database = database
        self._credentials = credentials
        self._clock = clock

    async def start(self) -> tuple[str, str]:
        """Begin a grant and return the device's code and the user's code."""
        while True:
            device_code = secrets.token_urlsafe(32)
            letters = "".join(secrets.choice(USER_ALPHABET) for _ in range(8))
            user_code = f"{letters[:4]}-{letters[4:]}"
            now = self._clock.now_us()
            row = DeviceGrantRow(
                id=new_id("grant_"),
                device_code_hash=hash_secret(device_code),
                user_code=user_code,
                created_us=now,
                expires_us=now + GRANT_SECONDS * MICROSECONDS,
            )
            try:
                async with self._database.unit_of_work() as session:
                    await session.exec(delete(DeviceGrantRow).where(col(DeviceGrantRow.expires_us) < now - REMEMBERED_US))
                    session.add(row)
            except IntegrityError:
                # Another grant has the user's code.
                continue
            return device_code, user_code

    async def waiting(self, typed: str) -> str | None:
        """Return the user's code of a grant that waits, by that code as somebody typed it."""
        letters = "".join(letter for letter in typed.upper() if letter.isalnum())
        code = f"{letters[:4]}-{letters[4:]}"
        async with self._database.read() as session:
            found = await session.exec(
                select(DeviceGrantRow.user_code).where(
                    col(DeviceGrantRow.user_code) == code,
                    col(DeviceGrantRow.state) == "pending",
                    col(DeviceGrantRow.expires_us) > self._clock.now_us(),
                )
            )
            return found.one_or_none()

    async def decide(self, user_code: str, state: State, org_id: str, user_id: str) -> bool:
        """Note what the user decided; false when the grant no longer waits."""
        async with self._database.unit_of_work() as session:
            done = await session.exec(
                update(DeviceGrantRow)
                .where(
                    col(DeviceGrantRow.user_code) == user_code,
                    col(DeviceGrantRow.state) == "pending",
                    col(DeviceGrantRow.expires_us) > self._clock.now_us(),
                )
                .values(state=state, org_id=org_id, user_id=user_id)
            )
        return done.rowcount == 1

    async def claim(self, device_code: str) -> tuple[State, str | None]:
        """Return how a grant stands, and its key when it was just allowed. Two claims at once give one key."""
        async with self._database.read() as session:
            query = select(DeviceGrantRow).where(col(DeviceGrantRow.device_code_hash) == hash_secret(device_code))
            row = (await session.exec(query)).one_or_none()
        if row is None or row.expires_us <= self._clock.now_us():
            return "ended", None
        if row.state != "allowed":
            return cast("State", row.state), None
        async with self._database.unit_of_work() as session:
            claimed = await session.exec(
                update(DeviceGrantRow)
                .where(col(DeviceGrantRow.id) == row.id, col(DeviceGrantRow.state) == "allowed")
                .values(state="ended")
            )
            if claimed.rowcount != 1:
                return "ended", None
            issued = await self._credentials.issue(
                session, CredentialKind.TELEMETRY_KEY, row.org_id or "", scopes=CLIENT_SCOPES, name=f"device {row.user_code}"
            )
        return "allowed", issued.secret
