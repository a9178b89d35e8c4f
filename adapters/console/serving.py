"""Runs the server in the foreground until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version

import structlog

from adapters.server import Server
from core.app import App
from core.identity.accounts import FirstAdmin
from core.kernel.errors import Unavailable
from core.kernel.settings import Settings

log = structlog.get_logger("busbar.serve")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
    async with dev_model(settings) as effective:
        await _serve(effective, announce, stop)


@asynccontextmanager
async def dev_model(settings: Settings) -> AsyncGenerator[Settings]:
    """Run a development model where the settings ask for one, and yield the settings that make plans use it.

    Raises:
        Unavailable: It has no port.
    """
    asked = settings.plan_models
    if not asked.dev_model:
        yield settings
        return
    from adapters.dev_model.server import DevModel  # noqa: PLC0415 - only who develops needs it

    model = DevModel(asked.dev_port, asked.dev_pace_seconds)
    try:
        url = await model.start()
    except OSError as error:
        raise Unavailable(f"the development model cannot listen: {error}") from error
    log.warning("development model runs", url=url)
    try:
        yield settings.model_copy(update={"plan_models": asked.model_copy(update={"dev_url": url})})
    finally:
        await model.stop()


async def serve_dev_model(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve the development model alone until SIGINT or SIGTERM; `announce` is called with its address when it answers."""
    stop = _stop_signal()
    alone = settings.model_copy(update={"plan_models": settings.plan_models.model_copy(update={"dev_model": True})})
    async with dev_model(alone) as running:
        announce(running.plan_models.dev_url)
        await stop.wait()


async def _serve(settings: Settings, announce: Callable[[Ready, FirstAdmin | None], None], stop: asyncio.Event) -> None:
    app = await App.create(settings)
    try:
        password = settings.admin_password.get_secret_value()
        admin = await app.identity.ensure_first_admin(settings.admin_email, settings.admin_username, password)
        server = await _open(app)
        # The collector never again looks at what was loaded; see adapters/console/__init__.py.
        gc.freeze()
        try:
            announce(Ready(server.http_url, server.grpc_address, str(settings.data.resolve()), program_version()), admin)
            await stop.wait()
        finally:
            await server.stop(settings.grace_seconds)
    finally:
        await app.close()


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
