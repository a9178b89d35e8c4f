"""The version that the command line compares with its own."""

from __future__ import annotations

import pytest

from tests.conftest import Running


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_anybody_reads_the_version_that_clients_expect(busbar: Running, door: str) -> None:
    assert (await busbar.client(door).call("VersionService.GetVersion")).version == "2.2.1"
