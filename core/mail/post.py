"""The post: takes mails over in the unit of work of their cause, and sends them from the outbox.

What waits in the outbox is encrypted with a key of the server: a mail may hold a pin, and the database shows no secrets.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING, Protocol

import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.signing import ServerSecret
from core.kernel.clock import Clock, to_datetime
from core.outbox.delivery import Delivery, Handler, PermanentFailure
from core.outbox.outbox import Outbox

if TYPE_CHECKING:
    from joserfc.jwk import OctKey

KIND = "mail"
ENCRYPTION = {"alg": "dir", "enc": "A256GCM"}

log = structlog.get_logger("busbar.mail")


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to one person.

    Attributes:
        expires_us: When it is not worth sending any more; None for never.
    """

    to: str
    subject: str
    text: str
    expires_us: int | None = None


class Carrier(Protocol):
    """Brings mails to where they are read."""

    async def carry(self, message: EmailMessage, name: str) -> None:
        """Bring a mail on its way; `name` is the same whenever the same mail is tried again.

        Raises:
            AttemptFailed: It did not go; a later try may succeed.
        """
        ...


class Post:
    """Takes over mails and sends them."""

    def __init__(self, outbox: Outbox, secret: ServerSecret, carrier: Carrier, sender: str, clock: Clock) -> None:
        self._outbox = outbox
        self._secret = secret
        self._carrier = carrier
        self._sender = sender
        self._clock = clock
        self._known: OctKey | None = None

    def handler(self, seconds: float) -> Handler:
        """Return what carries out the side effects of this kind, with the time that one mail may take."""
        return Handler(self._deliver, seconds=seconds)

    async def send(self, session: AsyncSession, mail: Mail, org_id: str = "") -> None:
        """Take a mail over in the caller's unit of work; it goes once that is committed."""
        from joserfc import jwe  # noqa: PLC0415 - cryptography takes 8 MiB, which few servers need

        sealed = jwe.encrypt_compact(ENCRYPTION, json.dumps(asdict(mail)).encode(), self._key)
        await self._outbox.enqueue(session, KIND, sealed, org_id)

    async def _deliver(self, delivery: Delivery) -> int | None:
        mail = self._opened(delivery)
        if mail.expires_us is not None and mail.expires_us <= self._clock.now_us():
            raise PermanentFailure("the mail was not sent while what it says counted")
        await self._carrier.carry(self._message(mail, delivery), delivery.id)
        log.info("mail sent", mail=delivery.id, attempt=delivery.attempt)
        return None

    def _opened(self, delivery: Delivery) -> Mail:
        from joserfc import jwe  # noqa: PLC0415 - as above
        from joserfc.errors import JoseError  # noqa: PLC0415

        try:
            text = jwe.decrypt_compact(str(delivery.json()), self._key).plaintext or b""
        except (JoseError, ValueError) as error:
            raise PermanentFailure("the server's secret has changed since the mail was taken over") from error
        return Mail(**json.loads(text))

    @property
    def _key(self) -> OctKey:
        from joserfc.jwk import OctKey  # noqa: PLC0415 - as above

        if self._known is None:
            self._known = OctKey.import_key(self._secret.derive("mail"))
        return self._known

    def _message(self, mail: Mail, delivery: Delivery) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = mail.to
        # A line break would begin another header.
        message["Subject"] = " ".join(mail.subject.split())
        message["Date"] = format_datetime(to_datetime(delivery.created_us))
        message["Message-ID"] = f"<{delivery.id}@{self._sender.rpartition('@')[2] or 'localhost'}>"
        message.set_content(mail.text)
        return message
