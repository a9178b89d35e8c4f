"""Mails by SMTP."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from core.kernel.settings import Mail, is_loopback
from core.outbox.delivery import AttemptFailed, PermanentFailure

PORTS = {"smtp": 587, "smtps": 465}
FIRST_PERMANENT = 500


class SmtpCarrier:
    """Hands each mail to a mail server, in a thread: the library waits where it stands."""

    def __init__(self, settings: Mail) -> None:
        parts = urlsplit(settings.smtp_url.get_secret_value())
        self._host = parts.hostname or ""
        self._port = parts.port or PORTS[parts.scheme]
        self._tls = parts.scheme == "smtps"
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._seconds = settings.timeout_seconds

    async def carry(self, message: EmailMessage, name: str) -> None:
        """Hand a mail to the server. What the server said of a password or an address is not repeated."""
        del name
        try:
            await asyncio.to_thread(self._send, message)
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            refused = PermanentFailure if min(codes, default=0) >= FIRST_PERMANENT else AttemptFailed
            raise refused("the mail server refuses the address", max(codes, default=0)) from error
        except smtplib.SMTPResponseException as error:
            raise AttemptFailed("the mail server refuses the mail", error.smtp_code) from error
        except (OSError, smtplib.SMTPException) as error:
            raise AttemptFailed(f"the mail server cannot be reached: {type(error).__name__}") from error

    def _send(self, message: EmailMessage) -> None:
        with self._connect() as server:
            if self._user:
                server.login(self._user, self._password)
            server.send_message(message)

    def _connect(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self._tls:
            return smtplib.SMTP_SSL(self._host, self._port, timeout=self._seconds, context=context)
        server = smtplib.SMTP(self._host, self._port, timeout=self._seconds)
        try:
            self._encrypt(server, context)
        except BaseException:
            server.close()
            raise
        return server

    def _encrypt(self, server: smtplib.SMTP, context: ssl.SSLContext) -> None:
        server.ehlo()
        if server.has_extn("starttls"):
            server.starttls(context=context)
            server.ehlo()
        elif self._user and not is_loopback(self._host):
            raise AttemptFailed("the mail server offers no encryption, so it is not told the password")
