"""Firmware after `kill -9` and on a full disk: what was acknowledged is whole, and nothing else is left."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from core.app import App
from core.kernel.settings import Settings
from tests.faults.process import PASSWORD, ServerProcess, serving
from tests.maker.workshop import OCTETS, path_of, project_in

PART = b"\x5a" * 65_536


@dataclass(frozen=True)
class Workshop:
    """A data directory with somebody and their project."""

    data: Path
    session: str
    project_id: str

    def client(self, server: ServerProcess, credential: str = "") -> httpx.AsyncClient:
        """Return a client of a server on the directory."""
        headers = {"Authorization": f"Bearer {credential or self.session}"}
        return httpx.AsyncClient(base_url=server.http, headers=headers, timeout=30)

    def files(self) -> list[str]:
        """Return the names of all files of artifacts, whole or not."""
        return [path.name for path in (self.data / "artifacts").rglob("*") if path.is_file()]


@pytest.fixture
async def workshop(tmp_path: Path) -> Workshop:
    """A data directory that no server has opened yet."""
    app = await App.create(Settings(data=tmp_path / "data"))
    try:
        account = await app.identity.register("alice@example.com", PASSWORD, username="alice")
        project_id = await project_in(app, account.org_id, account.user.id)
    finally:
        await app.close()
    assert account.session is not None
    return Workshop(tmp_path / "data", account.session.secret, project_id)


async def test_a_killed_server_keeps_its_job_and_forgets_the_half_upload(workshop: Workshop) -> None:
    data, sent = os.urandom(300_000), asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield PART
        sent.set()
        await asyncio.Event().wait()

    async with serving(workshop.data) as server, workshop.client(server) as http:
        artifact = (await http.post(path_of(workshop.project_id), content=data, headers=OCTETS)).json()
        board = (await http.post("/api/boards", json={"name": "Bench"})).json()
        job = (await http.post(f"/api/boards/{board['id']}/ota", json={"artifactId": artifact["id"]})).json()
        upload = asyncio.create_task(http.post(path_of(workshop.project_id), content=half(), headers=OCTETS))
        async with asyncio.timeout(30):
            await sent.wait()
            while len(workshop.files()) < 2:  # noqa: ASYNC110 - what another process writes to disk tells nobody
                await asyncio.sleep(0.01)
        await server.kill()
        # It waits for its own next part, and so does not notice.
        upload.cancel()
        await asyncio.gather(upload, return_exceptions=True)
    async with serving(workshop.data) as server, workshop.client(server) as http:
        assert workshop.files() == [artifact["sha256"]]
        assert (await http.get(f"/api/ota/{job['id']}")).json() == job
        url = f"{server.http.replace('http', 'ws', 1)}/ws/boards/{board['id']}/pins"
        bearer = {"Authorization": f"Bearer {board['deviceToken']}"}
        async with websockets.connect(url, additional_headers=bearer) as socket, asyncio.timeout(30):
            frames: list[dict[str, Any]] = [json.loads(await socket.recv()) for _ in range(2)]
        assert [frame["type"] for frame in frames] == ["snapshot", "ota"]
        assert frames[1]["job"]["id"] == job["id"]
        async with workshop.client(server, board["deviceToken"]) as device:
            assert (await device.get(f"/api/ota/{job['id']}/artifact")).content == data


async def test_a_full_disk_refuses_an_upload_and_leaves_nothing(workshop: Workshop) -> None:
    async with serving(workshop.data) as server, workshop.client(server) as http:
        path = path_of(workshop.project_id)
        server.limit_files(4 * len(PART))
        refused = await http.post(path, content=PART * 20, headers=OCTETS)
        server.limit_files(-1)
        assert (refused.status_code, list(refused.json())) == (503, ["error"])
        assert workshop.files() == []
        assert (await http.get(path)).json()["artifacts"] == []
        assert (await http.post(path, content=PART * 20, headers=OCTETS)).status_code == 201
