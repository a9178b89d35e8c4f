"""Which class stands behind which service of the system itself."""

from __future__ import annotations

from protobuf import DescService

from core.foundations import Foundations
from core.system.health import HealthService
from gen.busbar.system.v1 import health_pb


def services(found: Foundations) -> list[tuple[DescService, object]]:
    """Build the services."""
    health = HealthService(found.database, found.health, found.signals, found.is_draining, found.settings.lab.version)
    return [(health_pb.desc().services[0], health)]
