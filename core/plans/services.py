"""Which class stands behind which service of the plans area."""

from __future__ import annotations

from protobuf import DescService

from core.foundations import Foundations
from core.kernel.http import AddressPolicy
from core.models.endpoints import Endpoints
from core.plans.completion import Roles
from core.plans.configs import ConfigService
from core.plans.models import ModelService
from core.plans.packs import PackBook
from core.plans.repositories import Repositories
from core.plans.settings import SettingsService
from core.plans.store import PlanStore
from gen.busbar.plans.v1 import configs_pb, models_pb, settings_pb

Bound = list[tuple[DescService, object]]


def services(found: Foundations) -> Bound:
    """Build the services and what they share."""
    packs = PackBook(found.database, found.settings)
    endpoints = found.keep(Endpoints(AddressPolicy.of(found.settings.outgoing)))
    found.keep(Roles(found.settings, packs, endpoints))
    store = found.keep(PlanStore(found.database, Repositories(found.settings.data / "plans"), found.clock))
    return [
        (configs_pb.desc().services[0], ConfigService(found.database)),
        (models_pb.desc().services[0], ModelService(found.database, packs, found.clock)),
        (settings_pb.desc().services[0], SettingsService(found.database, store, packs, found.clock)),
    ]
