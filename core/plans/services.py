"""Which class stands behind which service of the plans area."""

from __future__ import annotations

from protobuf import DescService

from core.foundations import Foundations
from core.plans.version import VersionService
from gen.busbar.plans.v1 import version_pb

Bound = list[tuple[DescService, object]]


def services(found: Foundations) -> Bound:
    """Build the services and what they share."""
    return [
        (version_pb.desc().services[0], VersionService(found.settings)),
    ]
