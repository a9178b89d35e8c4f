"""A checkout server of somebody else's: it listens on a real port, and signs as the protocol says, by code of its own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    signed = message_id.encode() + b"." + timestamp.encode() + b"." + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


@dataclass
class Asked:
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class CheckoutServer:
    """What it was asked, and how it answers.

    Attributes:
        checkouts: Id of each checkout by its idempotency key.
        status: What it answers with.
        broken: What it answers instead of a checkout.
    """

    url: str = ""
    asked: list[Asked] = field(default_factory=list[Asked])
    checkouts: dict[str, str] = field(default_factory=dict[str, str])
    refunds: set[str] = field(default_factory=set[str])
    status: int = 201
    broken: bytes | None = None

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        self.asked.append(asked)
        if self.status >= 300:
            return self.status, b"{}"
        if asked.path.endswith("/refund"):
            self.refunds.add(asked.headers["idempotency-key"])
            return 200, b"{}"
        if self.broken is not None:
            return 200, self.broken
        name = self.checkouts.setdefault(asked.headers["idempotency-key"], f"co_{len(self.checkouts) + 1}")
        return self.status, json.dumps({"id": name, "url": f"{self.url}/pay/{name}"}).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        status, content = self.answer(Asked(head[0].split(" ")[1], headers, body))
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(content)) + content)
        await writer.drain()
        writer.close()

    def event(self, kind: str, purchase: Any, **changes: Any) -> bytes:
        """Return the body of an event about a purchase."""
        return json.dumps({
            "type": kind, "purchaseId": purchase.id, "checkoutId": self.checkouts.get(purchase.id, "co_0"),
            "amountCents": purchase.price_cents, "currency": purchase.currency, **changes,
        }).encode()  # fmt: skip

    async def send(
        self,
        http: httpx.AsyncClient,
        purchase: Any,
        body: bytes,
        *,
        at: float,
        event_id: str = "evt_1",
        act: str = "confirm",
        secret: str = SECRET,
    ) -> httpx.Response:
        """Send a signed event."""
        timestamp = str(int(at))
        headers = {
            "webhook-id": event_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(secret, event_id, timestamp, body),
            "content-type": "application/json",
        }
        return await http.post(f"/api/purchases/{purchase.id}/{act}", content=body, headers=headers)


@asynccontextmanager
async def checkout_server() -> AsyncGenerator[CheckoutServer]:
    """Run a checkout server on a free port."""
    checkout = CheckoutServer()
    server = await asyncio.start_server(checkout.serve, "127.0.0.1", 0)
    checkout.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield checkout
