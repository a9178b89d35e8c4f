"""What the tests of the marketplace share: people who sell and buy, and projects to sell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from sqlmodel import col, select

from core.documents.documents import Documents
from core.maker.cloning import new_project
from core.maker.tables import NotificationRow, ProjectRow
from tests.conftest import Person, Running, Start
from tests.maker.workshop import carried_out

TEXTS = {"summary": "Waters plants", "description": "A pump, a probe and a board."}


@dataclass(frozen=True)
class Maker:
    """Somebody as the owner of new projects."""

    org_id: str
    user_id: str


class Shop:
    """A server and the shortest ways to sell and buy on it."""

    def __init__(self, busbar: Running) -> None:
        self.busbar = busbar

    async def call(self, person: Person | None, name: str, /, **fields: Any) -> Any:
        """Call an rpc over gRPC."""
        return await self.busbar.client("grpc", person.session if person else None).call(name, **fields)

    async def draft(self, person: Person, title: str = "Greenhouse", **fields: Any) -> Any:
        """Make a draft that can be published."""
        return await self.call(person, "ListingService.CreateListing", **{"title": title, "kind": "project", **TEXTS, **fields})

    async def listing(self, person: Person, title: str = "Greenhouse", **fields: Any) -> Any:
        """Make a published listing."""
        draft = await self.draft(person, title, **fields)
        return await self.call(person, "ListingService.PublishListing", listing_id=draft.id)

    async def read(self, person: Person, listing: Any) -> Any:
        """Read a listing."""
        return await self.call(person, "ListingService.GetListing", listing_id=listing.id)

    async def buy(self, person: Person, listing: Any, **fields: Any) -> Any:
        """Acquire a listing."""
        return await self.call(person, "PurchaseService.PurchaseListing", listing_id=listing.id, **fields)

    async def review(self, person: Person, listing: Any, rating: int = 5, **fields: Any) -> Any:
        """Review a listing."""
        return await self.call(person, "ReviewService.CreateReview", listing_id=listing.id, rating=rating, **fields)

    async def buyers(self, count: int, listing: Any) -> list[Person]:
        """Register people who acquire a listing."""
        people = [await self.busbar.person() for _ in range(count)]
        for person in people:
            await self.buy(person, listing)
        return people

    async def project(self, person: Person, name: str = "Pump", **documents: Any) -> ProjectRow:
        """Make a project with documents by kind."""
        app = self.busbar.app
        async with app.database.unit_of_work() as session:
            row = await new_project(session, Maker(person.org_id, person.id), name, app.clock)
            await session.flush()
            for kind, content in documents.items():
                await Documents(app.clock).save(session, person.org_id, row.id, kind, content, by=person.id)
        return row


async def notified(busbar: Running, person: Person, kind: str) -> list[NotificationRow]:
    """Return the notifications of a kind, once every side effect that is due was carried out."""
    await carried_out(busbar)
    async with busbar.app.database.read() as session:
        rows = (await session.exec(select(NotificationRow).where(col(NotificationRow.user_id) == person.id))).all()
    return [row for row in rows if row.kind == kind]


@pytest.fixture
async def shop(busbar: Running) -> Shop:
    """A server without any payment provider."""
    return Shop(busbar)


@pytest.fixture(params=["sqlite", "postgresql"])
async def any_shop(request: pytest.FixtureRequest, start: Start) -> Shop:
    """A server on each kind of database, on which money changes hands by hand."""
    if request.param == "sqlite":
        return Shop(await start(payments={"manual": "at_once"}))
    url = await request.getfixturevalue("postgres").migrated()
    return Shop(await start(database=url, payments={"manual": "at_once"}))
