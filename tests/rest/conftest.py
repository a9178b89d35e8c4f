"""Fixtures: a world of fake services, and a client of the real door before them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.rest.fakes import World, client, fake_rpcs, rest_app


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def web(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client(rest_app(fake_rpcs(world))) as opened:
        yield opened
