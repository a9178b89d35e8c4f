"""A running door for each test of this folder."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.live_door.serving import Serving, serving


@pytest.fixture
async def server() -> AsyncGenerator[Serving]:
    async with serving() as running:
        yield running
