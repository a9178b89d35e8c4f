"""A running door for each test of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.grpc.serving import Serving, serving


@pytest.fixture
async def server() -> AsyncIterator[Serving]:
    async with serving() as running:
        yield running
