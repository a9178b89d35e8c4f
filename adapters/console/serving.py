"""Runs the server in the foreground until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version

import structlog

from adapters.server import Server
from core.app import App
from core.identity.accounts import FirstAdmin
from core.kernel.errors import Unavailable
from core.kernel.settings import Settings

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
COLLECTOR_THRESHOLDS = (50_000, 20, 50)

log = structlog.get_logger("busbar.serve")


@dataclass(frozen=True, slots=True)
class Ready:
    """Where a running server is reached."""

    http: str
    grpc: str
    data: str
    version: str

    def as_dict(self) -> dict[str, str]:
        """Return the fields by name."""
        return asdict(self)


def program_version() -> str:
    """Return the version of the installed package."""
    return version("busbar")


async def serve(settings: Settings, announce: Callable[[Ready, FirstAdmin | None], None]) -> None:
    """Serve until SIGINT or SIGTERM, then let running calls end. A second signal stops at once.

    `announce` is called when every door answers.

    Raises:
        Unavailable: Storage or an address cannot be had.
    """
    if settings.local_mode:
        log.warning("local mode: everybody who reaches this server from this machine is believed to be whom they say they are")
    stop = _stop_signal()
    app = await App.create(settings)
    try:
        password = settings.admin_password.get_secret_value()
        admin = await app.identity.ensure_first_admin(settings.admin_email, settings.admin_username, password)
        server = await _open(app)
        _collect_rarely()
        try:
            announce(Ready(server.http_url, server.grpc_address, str(settings.data.resolve()), program_version()), admin)
            await stop.wait()
        finally:
            await server.stop(settings.grace_seconds)
    finally:
        await app.close()


def _collect_rarely() -> None:
    """Look for cycles less often, and never in what was loaded at the start.

    Frames and points come and go by the ten thousand and are freed without the collector; each look at everything that lives
    would stop the server for tens of milliseconds meanwhile.
    """
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


async def _open(app: App) -> Server:
    try:
        return await Server.start(app)
    except (OSError, RuntimeError) as error:
        # The gRPC engine knows no other error than RuntimeError for an address that it cannot have.
        raise Unavailable(f"cannot listen: {error}") from error


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        stop.set()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, asked)
    return stop
