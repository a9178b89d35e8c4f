"""The server behind the gRPC door."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health import SERVICE_NAME
from grpc_reflection.v1alpha import reflection

from adapters.grpc.handlers import Handlers
from adapters.grpc.reflection import LazyPool
from core.kernel.pipeline import Platform
from core.kernel.settings import Settings

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool  # noqa: TID251 - what grpcio's reflection takes

MOST_BYTES = 16 * 1024 * 1024
"""Largest message taken; a larger one is refused with RESOURCE_EXHAUSTED before it is read."""

OPTIONS = (
    ("grpc.max_receive_message_length", MOST_BYTES),
    # Two servers on one port would share its connections by chance.
    ("grpc.so_reuseport", 0),
    # A peer that is gone without a word is noticed, and its streams end.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


class GrpcDoor:
    """Serves every rpc of a platform over gRPC."""

    def __init__(self, platform: Platform, settings: Settings) -> None:
        self._platform = platform
        self._settings = settings
        self._handlers = Handlers(platform, settings.public_url)
        self._health = HealthServicer()
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str) -> int:
        """Serve on `HOST:PORT` and return the port; port 0 picks a free one.

        Raises:
            RuntimeError: The address cannot be bound.
        """
        server = self._server = grpc.aio.server(options=OPTIONS)
        names = self._add_services(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)  # pyright: ignore[reportUnknownMemberType]
        names += [SERVICE_NAME, reflection.SERVICE_NAME]
        for name in names:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        reflection.enable_server_reflection(names, server, cast("DescriptorPool", LazyPool()))
        port = self._bind(server, address)
        await server.start()
        return port

    async def drain(self) -> None:
        """Get ready to stop: health is NOT_SERVING, and streams, which may go on for ever, end with UNAVAILABLE."""
        await self._health.enter_graceful_shutdown()
        self._handlers.end_streams()

    async def stop(self, grace: float) -> None:
        """Drain and stop; calls that run have `grace` seconds to end by themselves."""
        await self.drain()
        if self._server is not None:
            await self._server.stop(grace)

    def _add_services(self, server: grpc.aio.Server) -> list[str]:
        methods = {f"/{rpc.name}": self._handlers.handler(rpc) for rpc in self._platform.rpcs}
        server.add_generic_rpc_handlers([_Methods(methods)])
        return list(dict.fromkeys(rpc.service.type_name for rpc in self._platform.rpcs))

    def _bind(self, server: grpc.aio.Server, address: str) -> int:
        address = f"[::]{address}" if address.startswith(":") else address
        certificate, key = self._settings.tls_certificate, self._settings.tls_key
        if certificate is None or key is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, _credentials(certificate, key))


class _Methods(grpc.GenericRpcHandler):
    """All methods in one table: grpc asks its handlers one after the other at each call, and would ask one for each service."""

    def __init__(self, methods: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._methods = methods

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return what handles a call; None for a method that is not here."""
        return self._methods.get(handler_call_details.method)


def _credentials(certificate: Path, key: Path) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
