"""Opens the doors of an app, and closes them in order: no new work, what runs is finished, sockets get 1001."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import structlog
import uvicorn
from starlette.responses import Response

from adapters.grpc.door import GrpcDoor
from adapters.http_head import BoundedHead
from adapters.listening import Listener
from adapters.live.app import LiveApp
from adapters.mcp.app import McpApp
from adapters.mcp.document import PATHS
from adapters.mqtt.bridge import MqttBridge
from adapters.rest.app import RestApp
from core.app import App
from core.homes.announcements import Homes
from core.kernel.settings import split_address
from core.kernel.telemetry import METRICS_TYPE, render_metrics
from gen.busbar.api.v1.options_pb import Surface

log = structlog.get_logger("busbar.server")

MCP_PATHS = ("/mcp", "/api/mcp/rpc")
SOCKET_BYTES = 16 * 1024 * 1024
"""Largest frame that is read at all; each socket has a smaller limit of its own."""


class HttpDoors:
    """One ASGI app in front of the three that speak HTTP and WebSocket."""

    def __init__(self, app: App, live: LiveApp, mcp: McpApp, surfaces: set[Surface] | None) -> None:
        self._rest = RestApp(
            app.platform, app.settings, surfaces=surfaces, extra_routes={"/metrics": serve_metrics}, extra_paths=PATHS
        )
        self._mcp = mcp
        self._live = live

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        """Hand a connection to the door that speaks its protocol."""
        if scope["type"] == "websocket":
            await self._live(scope, receive, send)
        elif scope["type"] == "http":
            door = self._mcp if scope["path"] in MCP_PATHS else self._rest
            await door(scope, receive, send)


async def serve_metrics(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    """Answer with the metrics of this process, in the text form of Prometheus."""
    await Response(render_metrics(), media_type=METRICS_TYPE)(scope, receive, send)


class Server:
    """All doors of an app, open.

    Attributes:
        http_url: Where HTTP clients reach it.
        grpc_address: Where gRPC clients reach it, `host:port`.
        listeners: Addresses of further HTTP listeners, by surface.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.http_url = ""
        self.grpc_address = ""
        self.listeners: dict[str, str] = {}
        self._live = LiveApp(app.platform, app.settings)
        self._mcp = McpApp(app.platform, app.settings, app.found.tool_calls.record)
        self._grpc = GrpcDoor(app.platform, app.settings)
        self._mqtt = MqttBridge(app.found.part(Homes), app.settings)
        self._http: list[tuple[Listener, asyncio.Task[None]]] = []

    @classmethod
    async def start(cls, app: App) -> Server:
        """Open every door; returns when all answer."""
        server = cls(app)
        try:
            await server._open()
            await app.found.opened()
        except BaseException:
            # The doors that did open must not outlive the one that did not.
            await server.stop(0)
            raise
        return server

    async def _open(self) -> None:
        settings = self.app.settings
        host, port = split_address(settings.grpc)
        bound = await self._grpc.start(settings.grpc)
        self.grpc_address = f"{_reachable(host)}:{bound or port}"
        self.http_url = await self._listen(settings.http, None)
        for name, address in settings.listen.items():
            self.listeners[name] = await self._listen(address, {Surface[name.upper()]})
        self._mqtt.start()

    async def _listen(self, address: str, surfaces: set[Surface] | None) -> str:
        host, port = split_address(address)
        sock = _bind(host, port)
        server = Listener(self._config(HttpDoors(self.app, self._live, self._mcp, surfaces)))
        task = asyncio.create_task(server.serve(sockets=[sock]), name=f"http {address}")
        self._http.append((server, task))
        ready = asyncio.create_task(server.ready.wait())
        await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if task.done():
            task.result()
        scheme = "https" if self.app.settings.tls_certificate else "http"
        return f"{scheme}://{_reachable(host)}:{sock.getsockname()[1]}"

    def _config(self, doors: HttpDoors) -> uvicorn.Config:
        settings = self.app.settings
        return uvicorn.Config(
            doors,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="websockets-sansio",
            ws_max_size=SOCKET_BYTES,
            # Deflating each frame anew for each of many watchers costs more than all else that is done for them, and a
            # compressor for each connection more memory than the rest of it.
            ws_per_message_deflate=False,
            ws_ping_interval=settings.live.ping_seconds,
            ws_ping_timeout=settings.live.ping_seconds,
            http=BoundedHead,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
        )

    async def stop(self, grace_seconds: float = 10.0) -> None:
        """Close every door; calls that run have `grace_seconds` to finish."""
        self.app.platform.draining = True
        await self._mqtt.stop()
        await asyncio.gather(self._live.close_all(1001), self._grpc.drain())
        # Readers of live streams would wait for ever; the end of the bus ends them.
        await self.app.bus.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.app.platform.drain(), grace_seconds)
        for server, _ in self._http:
            server.leave()
        await self._grpc.stop(grace_seconds)
        for server, task in self._http:
            server.force_exit = True
            await task
        log.info("doors closed")


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    sock.set_inheritable(True)
    return sock


def _reachable(host: str) -> str:
    """Return a host that a client on this machine can call."""
    return "127.0.0.1" if host in ("", "0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
