"""Which class stands behind which service of the maker area."""

from __future__ import annotations

from protobuf import DescService

from core.documents.documents import Documents
from core.foundations import Foundations
from core.maker import notices
from core.maker.access import ProjectAccess
from core.maker.agent_keys import AgentKeyService
from core.maker.attachments import Attachments
from core.maker.auth import AuthService
from core.maker.boards import BoardService
from core.maker.cloning import ProjectCopies
from core.maker.collab import CollabService
from core.maker.collaborators import CollaboratorService, Invitations
from core.maker.designs import DesignService
from core.maker.document_history import DocumentHistoryService
from core.maker.documents import ProjectDocuments
from core.maker.firmware import FirmwareService
from core.maker.home_assistant import HomeAssistantService
from core.maker.me import MeService
from core.maker.notices import Notices
from core.maker.people import People
from core.maker.pins import PinService
from core.maker.project_pins import ProjectPinMap
from core.maker.project_views import ProjectViews
from core.maker.projects import ProjectService
from core.maker.public import PublicService
from core.maker.referrals import Referrals
from core.maker.sharing import BoardSharing
from core.maker.widgets import WidgetService
from gen.busbar.maker.v1 import (
    agent_keys_pb,
    auth_pb,
    boards_pb,
    collab_pb,
    collaborators_pb,
    designs_pb,
    document_history_pb,
    firmware_pb,
    home_assistant_pb,
    me_pb,
    pins_pb,
    projects_pb,
    public_pb,
    widgets_pb,
)


def services(found: Foundations) -> list[tuple[DescService, object]]:
    """Build the services and what they share."""
    database, credentials, signals, bus, clock = found.database, found.credentials, found.signals, found.bus, found.clock
    people, access, stored = People(), ProjectAccess(), Documents(clock)
    posted = Notices(database, found.outbox, bus)
    found.handle(notices.KIND, posted.handler)
    referrals = Referrals(database, posted, clock)
    found.identity.on_register(Invitations(posted, clock).resolve)
    attachments = Attachments(access, BoardSharing(database, bus), bus, clock)
    boards = BoardService(database, credentials, signals, bus, clock, settings=found.settings, attachments=attachments)
    pins = PinService(boards, signals, bus, found.limiter, clock)
    pin_map = ProjectPinMap(attachments, pins, clock)
    views = ProjectViews(access, people)
    auth = AuthService(database, found.identity, found.limiter, clock, people=people, notices=posted, referrals=referrals)
    projects = ProjectService(
        database,
        bus,
        clock,
        attachments=attachments,
        boards=boards,
        views=views,
        copies=ProjectCopies(clock, stored),
        pins=pin_map,
        quota=found.settings.quotas.projects,
    )
    me = MeService(database, bus, credentials, clock, notices=posted, people=people, referrals=referrals)
    projects.on_delete(stored.forget)
    documents = ProjectDocuments(database, stored, access, people, bus, clock)
    collab = CollabService(
        bus,
        found.limiter,
        clock,
        documents=documents,
        people=people,
        attachments=attachments,
        pins=pins,
        pin_map=pin_map,
    )
    return [
        (auth_pb.desc().services[0], auth),
        (boards_pb.desc().services[0], boards),
        (pins_pb.desc().services[0], pins),
        (agent_keys_pb.desc().services[0], AgentKeyService(database, credentials, boards, clock, found.settings.quotas)),
        (home_assistant_pb.desc().services[0], HomeAssistantService(boards, pins)),
        (firmware_pb.desc().services[0], FirmwareService(documents)),
        (designs_pb.desc().services[0], DesignService(documents)),
        (widgets_pb.desc().services[0], WidgetService(documents)),
        (document_history_pb.desc().services[0], DocumentHistoryService(documents)),
        (collab_pb.desc().services[0], collab),
        (projects_pb.desc().services[0], projects),
        (collaborators_pb.desc().services[0], CollaboratorService(database, bus, clock, attachments, posted)),
        (public_pb.desc().services[0], PublicService(database, views, people)),
        (me_pb.desc().services[0], me),
    ]
