"""Purchases after `kill -9`: none that was acknowledged is lost, none is there twice, and each has its whole copy."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.faults.process import PASSWORD, ServerProcess, serving
from tests.maker.checkout import SECRET, CheckoutServer, checkout_server

LISTINGS = 18
AIMS = (2, 5, 0)
"""After how many answers of each life the server is killed; those under way then are never answered. The last one lives."""
TOGETHER = 6


@dataclass
class Market:
    """A seller with listings, a buyer, and what the buyer was told."""

    checkout: CheckoutServer | None
    sessions: dict[str, str] = field(default_factory=dict[str, str])
    listings: list[str] = field(default_factory=list[str])
    bought: dict[str, Any] = field(default_factory=dict[str, Any])
    paid: set[str] = field(default_factory=set[str])

    def client(self, server: ServerProcess, name: str) -> httpx.AsyncClient:
        """Return a client of the seller's or the buyer's."""
        headers = {"Authorization": f"Bearer {self.sessions[name]}"}
        return httpx.AsyncClient(base_url=server.http, headers=headers, timeout=30)

    async def open(self, server: ServerProcess) -> None:
        """Register both, and let the seller offer projects with a design."""
        async with httpx.AsyncClient(base_url=server.http, timeout=30) as http:
            for name in ("seller", "buyer"):
                body = {"email": f"{name}@example.com", "password": PASSWORD, "username": name}
                self.sessions[name] = (await http.post("/api/auth/register", json=body)).json()["token"]
        async with self.client(server, "seller") as http:
            for number in range(LISTINGS):
                project = (await http.post("/api/projects", json={"name": f"Pump {number}"})).json()["id"]
                await http.put(f"/api/projects/{project}/wiring", json={"data": {"number": number}})
                texts = {"title": f"Pump {number}", "kind": "project", "summary": "A pump", "description": "It pumps."}
                price = {"priceCents": 0 if self.checkout is None else 500, "projectId": project}
                listing = (await http.post("/api/marketplace/listings", json=texts | price)).json()["id"]
                published = await http.post(f"/api/marketplace/listings/{listing}/publish")
                assert published.status_code == 200, published.text
                self.listings.append(listing)

    async def buy(self, http: httpx.AsyncClient, listing: str) -> None:
        """Acquire a listing, and pay for it where that takes a provider. What was answered before is answered alike."""
        answer = await http.post(f"/api/marketplace/listings/{listing}/purchase")
        known = self.bought.setdefault(listing, answer.json())
        assert answer.status_code in (200, 201), answer.text
        assert answer.json()["id"] == known["id"]
        if self.checkout is not None:
            purchase = SimpleNamespace(id=known["id"], price_cents=500, currency="USD")
            event = self.checkout.event("payment.completed", purchase)
            sent = await self.checkout.send(http, purchase, event, at=time.time(), event_id=f"evt_{listing}")
            assert (sent.status_code, sent.json()["status"]) == (200, "completed"), sent.text
        self.paid.add(listing)

    async def until_killed(self, server: ServerProcess, after: int) -> None:
        """Buy everything, until the server is killed in the middle of it; 0 lets it live."""
        waiting = [listing for listing in self.listings if listing not in self.paid]
        answered = len(self.paid)

        async def worker(http: httpx.AsyncClient) -> None:
            while waiting:
                await self.buy(http, waiting.pop())
                if after and len(self.paid) >= answered + after:
                    await server.kill()

        async with self.client(server, "buyer") as http:
            ended = await asyncio.gather(*(worker(http) for _ in range(TOGETHER)), return_exceptions=True)
        assert all(error is None or isinstance(error, httpx.TransportError) for error in ended), ended


async def until(read: Callable[[], Awaitable[list[Any]]], count: int) -> list[Any]:
    """Read until there are as many as that; side effects are carried out in the background."""
    async with asyncio.timeout(60):
        while len(found := await read()) < count:  # noqa: ASYNC110 - what another process has carried out tells nobody
            await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("paid", [False, True], ids=["free", "paid at a checkout"])
async def test_purchases_are_whole_however_often_the_server_is_killed(tmp_path: Path, *, paid: bool) -> None:
    async with checkout_server() as checkout:
        market = Market(checkout if paid else None)
        payments = {"checkout_url": checkout.url, "checkout_secret": SECRET} if paid else {}
        for number, after in enumerate(AIMS):
            async with serving(tmp_path / "data", payments=payments) as server:
                if number == 0:
                    await market.open(server)
                acknowledged = dict(market.bought)
                await market.until_killed(server, after)
                assert acknowledged.items() <= market.bought.items()
                if not after:
                    await check(market, server)


async def check(market: Market, server: ServerProcess) -> None:
    """Check that each listing was bought once, with a copy of its own, and that both were told once."""
    async with market.client(server, "buyer") as http:
        purchases = (await http.get("/api/me/purchases", params={"limit": 200})).json()["purchases"]
        assert {one["listingId"]: one["id"] for one in purchases} == {key: one["id"] for key, one in market.bought.items()}
        assert len(purchases) == LISTINGS
        assert {one["status"] for one in purchases} == {"completed"}
        projects = (await http.get("/api/projects", params={"limit": 200})).json()["projects"]
        assert {project["id"] for project in projects} == {one["clonedProjectId"] for one in purchases}
        for project in projects:
            wiring = (await http.get(f"/api/projects/{project['id']}/wiring")).json()
            assert project["name"] == f"Pump {wiring['data']['number']}"
        for listing in market.listings:
            assert (await http.get(f"/api/marketplace/listings/{listing}")).json()["purchaseCount"] == 1
    for name, kind in (("buyer", "purchase.completed"), ("seller", "sale.completed")):
        async with market.client(server, name) as http:

            async def told(http: httpx.AsyncClient = http, kind: str = kind) -> list[Any]:
                found = (await http.get("/api/me/notifications", params={"limit": 200})).json()["notifications"]
                return [one["data"]["purchaseId"] for one in found if one["kind"] == kind]

            counted = Counter(await until(told, LISTINGS))
        assert counted == Counter(one["id"] for one in market.bought.values())
