"""A process that posts side effects to a receiver until it is killed: python -m tests.outbox.worker_process DATABASE URL."""

from __future__ import annotations

import asyncio
import sys

from core.kernel.http import AddressPolicy, OutgoingClient
from core.kernel.settings import Storage
from core.outbox.delivery import Delivery, Handler
from core.outbox.outbox import Outbox
from core.outbox.worker import OutboxWorker
from core.storage.database import Database


async def work(database_url: str, receiver_url: str) -> None:
    """Carry out side effects for ever."""
    database = Database(database_url, Storage())
    await database.start()
    async with OutgoingClient(AddressPolicy(("127.0.0.0/8",))) as client:

        async def post(delivery: Delivery) -> int:
            headers = {"Content-Type": "application/json", "X-Delivery-Id": delivery.id}
            answer = await client.request("POST", receiver_url, headers=headers, content=delivery.payload.encode())
            return answer.status

        # The lease is short, so that what a killed process held is soon taken up again.
        handlers = {"webhook": Handler(post, seconds=1)}
        async with OutboxWorker(database, Outbox(), handlers, poll_seconds=0.2, lease_margin_seconds=1):
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2]))
