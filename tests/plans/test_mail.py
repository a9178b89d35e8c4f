"""Mails of plans: lost by no restart, by SMTP where there is a mail server; and how often their pins may be tried."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from sqlmodel import select

from core.outbox.tables import OutboxRow
from tests.conftest import Start
from tests.plans.people import Plans

ASK = "AccountService.CreateEmailVerification"


class MailServer:
    """A mail server that keeps what it is given, and refuses the first tries."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.mails: asyncio.Queue[tuple[list[str], str]] = asyncio.Queue()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak SMTP."""
        said: list[str] = []
        writer.write(b"220 here\r\n")
        while line := (await reader.readline()).decode().strip():
            said.append(line)
            if line.lower().startswith("mail") and self.failures:
                self.failures -= 1
                writer.write(b"451 later\r\n")
            elif line.lower() == "data":
                writer.write(b"354 go on\r\n")
                text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                self.mails.put_nowait((said, text))
                writer.write(b"250 kept\r\n")
            else:
                writer.write(b"221 bye\r\n" if line.lower() == "quit" else b"250 fine\r\n")
        writer.close()


async def until(done: Callable[[], bool]) -> None:
    """Wait for something that nobody tells of."""
    for _ in range(1000):
        if done():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


@asynccontextmanager
async def mail_server(failures: int = 0) -> AsyncGenerator[MailServer]:
    """Run a mail server."""
    fake = MailServer(failures)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    async with server:
        fake.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield fake


async def test_mails_wait_in_the_outbox_over_a_restart(start: Start) -> None:
    first = await start()
    await first.app.outbox_worker.stop()
    await first.client("grpc").call("AccountService.CreateEmailVerification", email="ann@corp.example")
    second = Plans(await start())
    assert (await second.mail("ann@corp.example"))["Subject"] == "Your pin to sign in"


async def test_what_waits_in_the_outbox_shows_no_pin(start: Start) -> None:
    busbar = await start()
    await busbar.app.outbox_worker.stop()
    await busbar.client("grpc").call(ASK, email="ann@corp.example")
    async with busbar.app.database.read() as session:
        row = (await session.exec(select(OutboxRow))).one()
    assert "pin" not in row.payload
    assert "ann@corp.example" not in row.payload


async def test_a_mail_server_that_is_busy_is_asked_again(start: Start) -> None:
    async with mail_server(failures=1) as server:
        busbar = await start(mail={"smtp_url": server.url, "sender": "busbar@corp.example"})
        await busbar.client("grpc").call(ASK, email="ann@corp.example")
        await until(lambda: busbar.app.outbox_worker.counters.retried == 1)
        busbar.clock.forward(seconds=60)
        busbar.app.outbox.notify()
        said, text = await asyncio.wait_for(server.mails.get(), 10)
    assert "rcpt TO:<ann@corp.example>" in said
    assert "From: busbar@corp.example" in text
    assert "Your pin is " in text


async def test_a_pin_that_does_not_count_any_more_is_not_sent(start: Start) -> None:
    first = await start()
    await first.app.outbox_worker.stop()
    await first.client("grpc").call(ASK, email="ann@corp.example")
    first.clock.forward(seconds=301)
    first.app.outbox_worker.start()
    await until(lambda: first.app.outbox_worker.counters.dead == 1)
    assert not (first.app.settings.data / "mail").exists()


async def test_tries_are_limited_by_address_and_account(start: Start) -> None:
    plans = Plans(await start(rate_limits="on"))
    answers = [await plans.post("/accounts/sign_in", {"pin": f"{number:06}", "isSignInCode": True}) for number in range(12)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
