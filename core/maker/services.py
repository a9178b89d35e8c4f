"""Which class stands behind which service of the maker area."""

from __future__ import annotations

from protobuf import DescService

from core.documents.documents import Documents
from core.foundations import Foundations
from core.maker import notices
from core.maker.access import ProjectAccess
from core.maker.agent_keys import AgentKeyService
from core.maker.artifacts import ArtifactService
from core.maker.auth import AuthService
from core.maker.boards import BoardService
from core.maker.home_assistant import HomeAssistantService
from core.maker.notices import Notices
from core.maker.ota import OtaService
from core.maker.ota_jobs import EXPIRE_KIND, OtaJobs
from core.maker.pins import PinService
from core.maker.workbench import WorkbenchService
from core.maker.workbench_context import ProjectContext
from core.models.provider import Models
from core.storage.blobs import Blobs
from gen.busbar.maker.v1 import (
    agent_keys_pb,
    artifacts_pb,
    auth_pb,
    boards_pb,
    home_assistant_pb,
    ota_pb,
    pins_pb,
    workbench_pb,
)


def services(found: Foundations) -> list[tuple[DescService, object]]:
    """Build the services and what they share."""
    database, credentials, signals, bus, clock = found.database, found.credentials, found.signals, found.bus, found.clock
    posted = Notices(database, found.outbox, bus)
    found.handle(notices.KIND, posted.handler)
    projects = ProjectAccess()
    boards = BoardService(database, credentials, signals, bus, clock, found.settings)
    jobs = OtaJobs(database, found.outbox, posted, bus, clock)
    found.handle(EXPIRE_KIND, jobs.handler)
    pins = PinService(boards, signals, bus, found.limiter, clock, jobs)
    blobs = Blobs(found.settings.data / "artifacts")
    artifacts = found.keep(ArtifactService(database, blobs, projects, clock, found.settings.quotas))
    models = found.keep(Models(found.settings))
    context = ProjectContext(projects, Documents(clock))
    return [
        (auth_pb.desc().services[0], AuthService(found.identity, found.limiter, clock)),
        (boards_pb.desc().services[0], boards),
        (pins_pb.desc().services[0], pins),
        (agent_keys_pb.desc().services[0], AgentKeyService(database, credentials, boards, clock, found.settings.quotas)),
        (home_assistant_pb.desc().services[0], HomeAssistantService(boards, pins)),
        (artifacts_pb.desc().services[0], artifacts),
        (ota_pb.desc().services[0], OtaService(database, blobs, projects, boards, jobs)),
        (workbench_pb.desc().services[0], WorkbenchService(database, models, context)),
    ]
