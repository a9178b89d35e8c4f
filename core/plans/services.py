"""Which class stands behind which service of the plans area."""

from __future__ import annotations

from protobuf import DescService

from core.foundations import Foundations

Bound = list[tuple[DescService, object]]


def services(found: Foundations) -> Bound:
    """Build the services and what they share."""
    del found
    return []
