"""A controller and a browser of the lab, with nothing but HTTP and WebSocket clients: they do what the system's own ones do."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any, Self

import httpx
import websockets
from websockets.asyncio.client import ClientConnection

CHUNK = 100
"""Datapoints that a controller sends at once."""
SECONDS = 60.0
UNAUTHORIZED = 401


def reading(channel: int, poll: int) -> float:
    """Return what a simulated channel reads at a poll: a slow wave, and now and then the same value twice."""
    return round(50 + 40 * math.sin(poll / 60 + channel), 1)


class Person:
    """Signs in with mail address and password, and again whenever the token has ended."""

    def __init__(self, url: str, email: str, password: str) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=SECONDS)
        self._login = {"email": email, "password": password}
        self.token = ""
        self.sign_ins = 0

    async def sign_in(self) -> None:
        """Get a token."""
        answer = await self.http.post("/api/v1/auth/login", json=self._login)
        self.token = answer.raise_for_status().json()["access_token"]
        self.sign_ins += 1

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        """Make a request and return the JSON of its answer."""
        answer = await self._request(method, path, more)
        if answer.status_code == UNAUTHORIZED:
            await self.sign_in()
            answer = await self._request(method, path, more)
        return answer.raise_for_status().json()

    async def _request(self, method: str, path: str, more: dict[str, Any]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return await self.http.request(method, f"/api/v1{path}", headers=headers, **more)

    async def __aenter__(self) -> Self:
        await self.sign_in()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.http.aclose()


class Controller(Person):
    """Polls channels and sends what they read, over either transport."""

    def __init__(self, url: str, email: str, password: str) -> None:
        super().__init__(url, email, password)
        self.socket: ClientConnection | None = None

    async def start_up(self) -> None:
        """Make a simulated device where there is nothing at all, and say so, as a controller in development does."""
        instances, events = await self.ask("GET", "/plugins"), await self.ask("GET", "/events")
        if not instances["total"] and not events["total"]:
            body = {"plugin_id": "simulated", "instance_name": "Simulated Device", "demo_mode": True, "enabled": True}
            assert (await self.ask("POST", "/plugins", json=body))["status"] == "success"
        await self.ask("POST", "/logging", json={"content": "Controller started.", "logging_type": "info"})

    async def sync(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the events of the channels that are read, and of those that are written, of enabled instances."""
        read: dict[str, str] = {}
        written: dict[str, str] = {}
        for instance in (await self.ask("GET", "/plugins"))["data"]:
            if not instance["enabled"]:
                continue
            for channel in await self.ask("GET", f"/plugins/{instance['public_id']}/channels"):
                into = written if channel["direction"] == "output" else read
                if channel["event_public_id"] is not None:
                    into[channel["channel_id"]] = channel["event_public_id"]
        return read, written

    async def connect(self, ws_url: str) -> None:
        """Send over the socket from now on. Its answers are never read."""
        self.socket = await websockets.connect(f"{ws_url}/ws/controller/telemetry?token={self.token}")

    async def send(self, values: Mapping[str, float]) -> None:
        """Send the values of events, in chunks."""
        points = [{"value": value, "event_public_id": event} for event, value in values.items()]
        for start in range(0, len(points), CHUNK):
            batch = {"datapoints": points[start : start + CHUNK]}
            if self.socket is None:
                said = await self.ask("POST", "/datapoints/batch", json=batch)
                assert said["message"] == f"{len(batch['datapoints'])} datapoints successfully created."
            else:
                await self.socket.send(json.dumps(batch))

    async def latest(self) -> dict[str, float]:
        """Return the newest values, which a controller writes back to its outputs."""
        return {point["event_public_id"]: point["value"] for point in await self.ask("GET", "/datapoints/latest")}

    async def __aexit__(self, *error: object) -> None:
        if self.socket is not None:
            await self.socket.close()
        await super().__aexit__(*error)


class Browser(Person):
    """Shows lists and charts, and listens to what is new."""

    def __init__(self, url: str, email: str, password: str) -> None:
        super().__init__(url, email, password)
        self.socket: ClientConnection | None = None

    async def listen(self, ws_url: str) -> None:
        """Subscribe to new datapoints."""
        self.socket = await websockets.connect(f"{ws_url}/ws/datapoints/stream?token={self.token}")
        assert (await self.hear())["type"] == "connected"

    async def hear(self) -> dict[str, Any]:
        """Return the next frame."""
        assert self.socket is not None
        return json.loads(await asyncio.wait_for(self.socket.recv(), SECONDS))

    async def rows(self, path: str) -> list[dict[str, Any]]:
        """Return a list as pages show it; the query defeats caches."""
        page = await self.ask("GET", path, params={"page_size": 50, "_t": 1})
        assert set(page) == {"page", "page_size", "total", "data"}
        return page["data"]

    async def make(self, path: str, **body: object) -> dict[str, Any]:
        """Make something and return it as the list shows it, which pages read at once."""
        said = await self.ask("POST", path, json=body)
        assert said["status"] == "success"
        return (await self.rows(path))[-1]

    async def change(self, path: str, **body: object) -> None:
        """Change something."""
        assert (await self.ask("PUT", path, json=body))["status"] == "success"

    async def delete(self, path: str) -> None:
        """Delete something."""
        assert (await self.ask("DELETE", path))["status"] == "success"

    async def upload(self, path: str, name: str, data: bytes) -> str:
        """Send a file as a form does, and return what the server says."""
        return (await self.ask("POST", path, files={"file": (name, data)}))["message"]

    async def csv(self, experiment: str) -> list[str]:
        """Download an experiment; return its lines."""
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = await self.http.get(f"/api/v1/experiments/{experiment}/export/csv", headers=headers)
        return answer.raise_for_status().text.split("\r\n")[:-1]

    async def __aexit__(self, *error: object) -> None:
        if self.socket is not None:
            await self.socket.close()
        await super().__aexit__(*error)
