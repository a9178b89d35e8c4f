"""Numbered pages, as every list of the lab has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import func
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

T = TypeVar("T")

PAGE_SIZE = 25


class Paged(Protocol):
    """A request that names a page; both numbers are checked by its rules."""

    page: int
    page_size: int


@dataclass(frozen=True, slots=True)
class Page:
    """Which rows to return.

    Attributes:
        number: Number of the page, from 1.
        size: Rows on a full page.
    """

    number: int
    size: int

    @property
    def offset(self) -> int:
        """How many rows stand on the pages before."""
        return (self.number - 1) * self.size


def page_of(request: Paged) -> Page:
    """Return the page that a request names: the first, of 25 rows, when it names none."""
    return Page(request.page or 1, request.page_size or PAGE_SIZE)


async def read_page(session: AsyncSession, query: SelectOfScalar[T], page: Page) -> tuple[list[T], int]:
    """Return the rows of a page of an ordered query, and how many rows there are on all pages."""
    total = (await session.exec(select(func.count()).select_from(query.order_by(None).subquery()))).one()
    rows = (await session.exec(query.offset(page.offset).limit(page.size))).all()
    return list(rows), total
