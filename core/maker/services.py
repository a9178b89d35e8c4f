"""Which class stands behind which service of the maker area."""

from __future__ import annotations

from dataclasses import dataclass

from protobuf import DescService

from core.documents.documents import Documents
from core.foundations import Foundations
from core.maker import notices
from core.maker.access import ProjectAccess
from core.maker.agent_keys import AgentKeyService
from core.maker.attachments import Attachments
from core.maker.auth import AuthService
from core.maker.boards import BoardService
from core.maker.checkout import checkout_server
from core.maker.cloning import ProjectCopies
from core.maker.collab import CollabService
from core.maker.collaborators import CollaboratorService, Invitations
from core.maker.designs import DesignService
from core.maker.document_history import DocumentHistoryService
from core.maker.documents import ProjectDocuments
from core.maker.firmware import FirmwareService
from core.maker.home_assistant import HomeAssistantService
from core.maker.listings import ListingService
from core.maker.market import Market
from core.maker.me import MeService
from core.maker.notices import Notices
from core.maker.payments import PaymentProviders
from core.maker.people import People
from core.maker.pins import PinService
from core.maker.project_pins import ProjectPinMap
from core.maker.project_views import ProjectViews
from core.maker.projects import ProjectService
from core.maker.public import PublicService
from core.maker.purchases import PurchaseService
from core.maker.referrals import Referrals
from core.maker.reviews import ReviewService
from core.maker.sales import Sales
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
    listings_pb,
    me_pb,
    pins_pb,
    projects_pb,
    public_pb,
    purchases_pb,
    reviews_pb,
    widgets_pb,
)

Services = list[tuple[DescService, object]]


@dataclass(frozen=True, slots=True)
class Ground:
    """What the services of the area share.

    Attributes:
        people: What is public about users.
        access: Who may do what with a project.
        notices: Notifications.
        attachments: Which boards are attached to which projects.
        boards: Boards, and who may see them.
        pins: Pins of boards.
        pin_map: Pins of projects.
        copies: Copies of projects.
        projects: Projects, and what is to be done when one is deleted.
        documents: Revisioned documents.
    """

    people: People
    access: ProjectAccess
    notices: Notices
    attachments: Attachments
    boards: BoardService
    pins: PinService
    pin_map: ProjectPinMap
    copies: ProjectCopies
    projects: ProjectService
    documents: Documents


def services(found: Foundations) -> Services:
    """Build the services and what they share."""
    ground = _ground(found)
    return [
        *_boards(found, ground),
        *_people(found, ground),
        *_projects(found, ground),
        *_documents(found, ground),
        *_market(found, ground),
    ]


def _ground(found: Foundations) -> Ground:
    database, bus, clock = found.database, found.bus, found.clock
    people, access, documents = People(), ProjectAccess(), Documents(clock)
    attachments = Attachments(access, BoardSharing(database, bus), bus, clock)
    boards = BoardService(
        database, found.credentials, found.signals, bus, clock, settings=found.settings, attachments=attachments
    )
    pins = PinService(boards, found.signals, bus, found.limiter, clock)
    pin_map = ProjectPinMap(attachments, pins, clock)
    copies = ProjectCopies(clock, documents)
    projects = ProjectService(
        database,
        bus,
        clock,
        attachments=attachments,
        boards=boards,
        views=ProjectViews(access, people),
        copies=copies,
        pins=pin_map,
        quota=found.settings.quotas.projects,
    )
    projects.on_delete(documents.forget)
    posted = Notices(database, found.outbox, bus)
    found.handle(notices.KIND, posted.handler)
    return Ground(
        people=people,
        access=access,
        notices=posted,
        attachments=attachments,
        boards=boards,
        pins=pins,
        pin_map=pin_map,
        copies=copies,
        projects=projects,
        documents=documents,
    )


def _boards(found: Foundations, ground: Ground) -> Services:
    keys = AgentKeyService(found.database, found.credentials, ground.boards, found.clock, found.settings.quotas)
    return [
        (boards_pb.desc().services[0], ground.boards),
        (pins_pb.desc().services[0], ground.pins),
        (agent_keys_pb.desc().services[0], keys),
        (home_assistant_pb.desc().services[0], HomeAssistantService(ground.boards, ground.pins)),
    ]


def _people(found: Foundations, ground: Ground) -> Services:
    database, clock = found.database, found.clock
    found.identity.on_register(Invitations(ground.notices, clock).resolve)
    people, posted, referrals = ground.people, ground.notices, Referrals(database, ground.notices, clock)
    auth = AuthService(database, found.identity, found.limiter, clock, people=people, notices=posted, referrals=referrals)
    me = MeService(database, found.bus, found.credentials, clock, notices=posted, people=people, referrals=referrals)
    return [(auth_pb.desc().services[0], auth), (me_pb.desc().services[0], me)]


def _projects(found: Foundations, ground: Ground) -> Services:
    database, bus, clock = found.database, found.bus, found.clock
    collaborators = CollaboratorService(database, bus, clock, ground.attachments, ground.notices)
    return [
        (projects_pb.desc().services[0], ground.projects),
        (collaborators_pb.desc().services[0], collaborators),
        (public_pb.desc().services[0], PublicService(database, ProjectViews(ground.access, ground.people), ground.people)),
    ]


def _documents(found: Foundations, ground: Ground) -> Services:
    documents = ProjectDocuments(found.database, ground.documents, ground.access, ground.people, found.bus, found.clock)
    collab = CollabService(
        found.bus,
        found.limiter,
        found.clock,
        documents=documents,
        people=ground.people,
        attachments=ground.attachments,
        pins=ground.pins,
        pin_map=ground.pin_map,
    )
    return [
        (firmware_pb.desc().services[0], FirmwareService(documents)),
        (designs_pb.desc().services[0], DesignService(documents)),
        (widgets_pb.desc().services[0], WidgetService(documents)),
        (document_history_pb.desc().services[0], DocumentHistoryService(documents)),
        (collab_pb.desc().services[0], collab),
    ]


def _market(found: Foundations, ground: Ground) -> Services:
    database, clock = found.database, found.clock
    market = Market(ground.people)
    ground.people.count_listings = market.count_published
    providers = PaymentProviders(found.settings.payments, found.keep(checkout_server(found.settings, clock)))
    quota = found.settings.quotas.projects
    sales = Sales(clock, market, ground.notices, ground.copies, providers, project_quota=quota)
    return [
        (listings_pb.desc().services[0], ListingService(database, clock, market, ground.access, providers)),
        (reviews_pb.desc().services[0], ReviewService(database, clock, market, ground.notices)),
        (purchases_pb.desc().services[0], PurchaseService(database, found.settings, market, sales, providers)),
    ]
