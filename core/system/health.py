"""Health: whether the process lives, whether it can work, and how it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from core.kernel.call import Call
from core.kernel.clock import to_exact_timestamp
from core.kernel.errors import Unavailable
from core.kernel.health import OK, HealthCheck
from core.signals.service import Signals
from core.storage.database import Database
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.system.v1.health_pb import (
    CheckLivenessRequest,
    CheckLivenessResponse,
    CheckReadinessRequest,
    CheckReadinessResponse,
    GetHealthRequest,
    Health,
)


def busbar_version() -> str:
    """Return the version of the installed package; `0+source` when the tree runs without being installed."""
    try:
        return version("busbar")
    except PackageNotFoundError:
        return "0+source"


class HealthService:
    """Answers load balancers and people."""

    def __init__(
        self, database: Database, health: HealthCheck, signals: Signals, draining: Callable[[], bool], told_version: str
    ) -> None:
        self._database = database
        self._health = health
        self._signals = signals
        self._draining = draining
        self._version = told_version
        self._started = time.monotonic()

    async def check_liveness(self, request: CheckLivenessRequest, call: Call) -> CheckLivenessResponse:
        """Answer while the process runs."""
        del request, call
        return CheckLivenessResponse(status="ok")

    async def check_readiness(self, request: CheckReadinessRequest, call: Call) -> CheckReadinessResponse:
        """Answer while storage answers and the server stays."""
        del request, call
        if self._draining():
            raise Unavailable("the server is going down", reason=ErrorReason.SHUTTING_DOWN)
        await self._database.ping()
        return CheckReadinessResponse(status="ok")

    async def get_health(self, request: GetHealthRequest, call: Call) -> Health:
        """Sum up the state of the server."""
        del request, call
        status = await self._health.check()
        uptime = round(time.monotonic() - self._started, 1)
        return Health(
            status=status,
            version=self._version,
            database="ok" if status == OK else "error",
            last_datapoint=to_exact_timestamp(self._signals.newest_us),
            uptime_seconds=uptime,
            devices=self._signals.connected_devices,
            uptime_s=uptime,
        )
