"""Which class stands behind which service of the plans area."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from protobuf import DescService

from core.documents.shared import SharedProjects
from core.foundations import Foundations
from core.identity.attempts import SignInAttempts
from core.identity.invites import Invites
from core.identity.orgs import Orgs
from core.identity.proofs import Proofs
from core.kernel.http import AddressPolicy
from core.models.endpoints import Endpoints
from core.plans.accounts import AccountService
from core.plans.active_runs import ActiveRuns
from core.plans.branches import BranchService
from core.plans.changes import ChangeService
from core.plans.completion import Roles
from core.plans.condensing import Condenser
from core.plans.configs import ConfigService, default_config
from core.plans.context_keeper import ContextKeeper
from core.plans.context_names import ContextNames
from core.plans.contexts import ContextService
from core.plans.conversation import ConversationService
from core.plans.file_maps import FileMapService
from core.plans.history import HistoryService
from core.plans.invites import InviteService
from core.plans.map_cache import MapCache
from core.plans.models import ModelService
from core.plans.orgs import OrgService
from core.plans.packs import PackBook
from core.plans.people import People
from core.plans.plans import PlanService
from core.plans.project_documents import ProjectDocumentService
from core.plans.projects import ProjectService
from core.plans.repositories import Repositories
from core.plans.run_changes import PartialReplies
from core.plans.run_directory import RunDirectory
from core.plans.run_log import RunLog
from core.plans.run_parts import RunParts
from core.plans.runs import RunService
from core.plans.settings import SettingsService
from core.plans.store import PlanStore
from core.plans.summaries import Summaries
from core.plans.version import VersionService
from gen.busbar.plans.v1 import (
    accounts_pb,
    branches_pb,
    changes_pb,
    configs_pb,
    contexts_pb,
    conversation_pb,
    file_maps_pb,
    history_pb,
    invites_pb,
    models_pb,
    orgs_pb,
    plans_pb,
    project_documents_pb,
    projects_pb,
    runs_pb,
    settings_pb,
    version_pb,
)

Bound = list[tuple[DescService, object]]


@dataclass(frozen=True)
class _Parts:
    """What several services share."""

    store: PlanStore
    packs: PackBook
    roles: Roles
    keeper: ContextKeeper
    maps: MapCache
    summaries: Summaries
    condense: Condenser


def services(found: Foundations) -> Bound:
    """Build the services and what they share."""
    parts = _parts(found)
    return [
        *_people(found),
        *_plans(found, parts),
        *_models(found, parts),
        *_context(found, parts),
        *_runs(found, parts),
        (version_pb.desc().services[0], VersionService(found.settings)),
    ]


def _parts(found: Foundations) -> _Parts:
    database, settings, clock = found.database, found.settings, found.clock
    packs, maps = PackBook(database, settings), MapCache(database, clock)
    endpoints = found.keep(Endpoints(AddressPolicy.of(settings.outgoing)))
    roles = Roles(settings, packs, endpoints)
    return _Parts(
        found.keep(PlanStore(database, Repositories(settings.data / "plans"), clock)),
        packs,
        roles,
        ContextKeeper(packs, maps, clock),
        maps,
        Summaries(database, clock),
        Condenser(roles),
    )


def _people(found: Foundations) -> Bound:
    """Build the services of those who work on plans."""
    people = People(
        found.database,
        found.identity,
        Orgs(found.credentials, found.clock),
        Invites(found.clock),
        Proofs(found.secret, found.clock),
        found.mail,
        found.settings.local_mode,
    )
    attempts = SignInAttempts(found.limiter)
    return [
        (accounts_pb.desc().services[0], AccountService(people, attempts, found.clock)),
        (orgs_pb.desc().services[0], OrgService(people)),
        (invites_pb.desc().services[0], InviteService(people)),
    ]


def _plans(found: Foundations, parts: _Parts) -> Bound:
    """Build what keeps plans, their branches and their history."""
    database, store, clock = found.database, parts.store, found.clock
    return [
        (projects_pb.desc().services[0], ProjectService(database, clock)),
        (plans_pb.desc().services[0], PlanService(database, store, default_config, clock)),
        (branches_pb.desc().services[0], BranchService(database, store, clock)),
        (conversation_pb.desc().services[0], ConversationService(store, parts.summaries)),
        (history_pb.desc().services[0], HistoryService(database, store, clock)),
        (changes_pb.desc().services[0], ChangeService(database, store, parts.condense, clock)),
    ]


def _context(found: Foundations, parts: _Parts) -> Bound:
    """Build what models read."""
    store, keeper = parts.store, parts.keeper
    # The area of makers keeps its projects; it is asked for them when they are needed.
    projects = partial(found.part, SharedProjects)
    documents = ProjectDocumentService(found.database, store, keeper, projects, parts.condense, found.clock)
    return [
        (contexts_pb.desc().services[0], ContextService(store, keeper, ContextNames(parts.roles))),
        (file_maps_pb.desc().services[0], found.keep(FileMapService(store, keeper, parts.maps))),
        (project_documents_pb.desc().services[0], documents),
    ]


def _runs(found: Foundations, parts: _Parts) -> Bound:
    """Build what carries plans out."""
    database, store, clock = found.database, parts.store, found.clock
    log = RunLog(database, clock)
    partial_replies = PartialReplies(store, log, clock)
    active = found.keep(ActiveRuns(database, clock, log, partial_replies.keep, pace_ms=found.settings.plans.pace_ms))
    carried = RunParts(database, store, log, parts.keeper, parts.roles, parts.summaries, clock)
    service = RunService(active, carried, RunDirectory(database, log, clock), clock)
    return [(runs_pb.desc().services[0], service)]


def _models(found: Foundations, parts: _Parts) -> Bound:
    """Build what says which models are asked, and how plans behave."""
    return [
        (configs_pb.desc().services[0], ConfigService(found.database)),
        (models_pb.desc().services[0], ModelService(found.database, parts.packs, found.clock)),
        (settings_pb.desc().services[0], SettingsService(found.database, parts.store, parts.packs, found.clock)),
    ]
