"""Which class stands behind which service of the maker area."""

from __future__ import annotations

from dataclasses import dataclass

from protobuf import DescService

from core.documents.documents import Documents
from core.foundations import Foundations
from core.homes.announcements import Topics
from core.maker import notices, outages
from core.maker.access import ProjectAccess
from core.maker.agent_calls import AgentCallService
from core.maker.agent_keys import AgentKeyService
from core.maker.artifacts import ArtifactService
from core.maker.assignments import AssignmentService
from core.maker.attachments import Attachments
from core.maker.auth import AuthService
from core.maker.boards import BoardService
from core.maker.certificate_issue import CertificateIssue
from core.maker.certificates import CertificateService
from core.maker.checkout import checkout_server
from core.maker.checkout_ends import CheckoutEnds
from core.maker.classrooms import ClassroomService
from core.maker.cloning import ProjectCopies
from core.maker.collab import CollabService
from core.maker.collaborators import CollaboratorService, Invitations
from core.maker.designs import DesignService
from core.maker.document_history import DocumentHistoryService
from core.maker.documents import ProjectDocuments
from core.maker.firmware import FirmwareService
from core.maker.handed_in import classroom_role
from core.maker.home_assistant import HomeAssistantService
from core.maker.home_discovery import HomeBoards, HomeDiscoveryService
from core.maker.home_widgets import HomeWidgets
from core.maker.listings import ListingService
from core.maker.market import Market
from core.maker.me import MeService
from core.maker.notices import Notices
from core.maker.ota import OtaService
from core.maker.ota_jobs import EXPIRE_KIND, OtaJobs
from core.maker.outages import Outages
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
from core.maker.shared_projects import MakerProjects
from core.maker.sharing import BoardSharing
from core.maker.submissions import SubmissionService
from core.maker.widgets import WidgetService
from core.maker.workbench import WorkbenchService
from core.maker.workbench_context import ProjectContext
from core.models.provider import Models
from core.storage.blobs import Blobs
from gen.busbar.maker.v1 import (
    agent_calls_pb,
    agent_keys_pb,
    artifacts_pb,
    assignments_pb,
    auth_pb,
    boards_pb,
    certificates_pb,
    classrooms_pb,
    collab_pb,
    collaborators_pb,
    designs_pb,
    document_history_pb,
    firmware_pb,
    home_assistant_pb,
    home_discovery_pb,
    listings_pb,
    me_pb,
    ota_pb,
    pins_pb,
    projects_pb,
    public_pb,
    purchases_pb,
    reviews_pb,
    submissions_pb,
    widgets_pb,
    workbench_pb,
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
        jobs: Ways of firmware to boards.
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
    jobs: OtaJobs
    pin_map: ProjectPinMap
    copies: ProjectCopies
    projects: ProjectService
    documents: Documents


def services(found: Foundations) -> Services:
    """Build the services and what they share."""
    ground = _ground(found)
    return [
        *_boards(ground),
        *_agents(found, ground),
        *_homes(found, ground),
        *_people(found, ground),
        *_projects(found, ground),
        *_documents(found, ground),
        *_firmware(found, ground),
        *_market(found, ground),
        *_classrooms(found, ground),
    ]


def _ground(found: Foundations) -> Ground:
    database, bus, clock = found.database, found.bus, found.clock
    people, access, documents = People(), ProjectAccess(), found.documents
    attachments = Attachments(access, BoardSharing(database, bus), bus, clock)
    boards = BoardService(
        database, found.credentials, found.signals, bus, clock, settings=found.settings, attachments=attachments
    )
    posted = Notices(database, found.outbox, bus)
    found.handle(notices.KIND, posted.handler)
    away = found.keep(Outages(database, found.outbox, posted, boards, found.signals, clock, settings=found.settings))
    found.handle(outages.KIND, away.handler)
    jobs = OtaJobs(database, found.outbox, posted, bus, clock)
    found.handle(EXPIRE_KIND, jobs.handler)
    pins = PinService(boards, found.signals, bus, found.limiter, clock, jobs)
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
    return Ground(
        people=people,
        access=access,
        notices=posted,
        attachments=attachments,
        boards=boards,
        pins=pins,
        jobs=jobs,
        pin_map=pin_map,
        copies=copies,
        projects=projects,
        documents=documents,
    )


def _boards(ground: Ground) -> Services:
    return [(boards_pb.desc().services[0], ground.boards), (pins_pb.desc().services[0], ground.pins)]


def _agents(found: Foundations, ground: Ground) -> Services:
    models = found.keep(Models(found.settings))
    context = ProjectContext(ground.access, ground.documents)
    return [
        (agent_keys_pb.desc().services[0], AgentKeyService(found, ground.boards)),
        (agent_calls_pb.desc().services[0], AgentCallService(found.tool_calls)),
        (workbench_pb.desc().services[0], WorkbenchService(found.database, models, context)),
    ]


def _homes(found: Foundations, ground: Ground) -> Services:
    mqtt = found.settings.mqtt
    widgets, topics = HomeWidgets(ground.documents), Topics(mqtt.topics)
    announced = HomeBoards(found.database, ground.boards, ground.pins, widgets, found.bus, topics=topics)
    discovery = HomeDiscoveryService(ground.boards, found.keep(announced), broker_is_set=bool(mqtt.url))
    return [
        (home_assistant_pb.desc().services[0], HomeAssistantService(found.database, ground.boards, ground.pins, widgets)),
        (home_discovery_pb.desc().services[0], discovery),
    ]


def _firmware(found: Foundations, ground: Ground) -> Services:
    database, blobs = found.database, Blobs(found.settings.data / "artifacts")
    artifacts = found.keep(ArtifactService(database, blobs, ground.access, found.clock, found.settings.quotas))
    return [
        (artifacts_pb.desc().services[0], artifacts),
        (ota_pb.desc().services[0], OtaService(database, blobs, ground.access, ground.boards, ground.jobs)),
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
    found.keep(MakerProjects(documents))
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
    database, clock, settings = found.database, found.clock, found.settings
    market = Market(ground.people)
    ground.people.count_listings = market.count_published
    providers = PaymentProviders(settings.payments, found.keep(checkout_server(settings, clock)))
    sales = Sales(clock, market, ground.notices, ground.copies, providers, found.outbox, project_quota=settings.quotas.projects)
    for kind, handler in CheckoutEnds(database, sales, providers).handlers.items():
        found.handle(kind, handler)
    return [
        (listings_pb.desc().services[0], ListingService(database, clock, market, ground.access, providers)),
        (reviews_pb.desc().services[0], ReviewService(database, clock, market, ground.notices)),
        (purchases_pb.desc().services[0], PurchaseService(database, settings, market, sales, providers)),
    ]


def _classrooms(found: Foundations, ground: Ground) -> Services:
    database, clock, settings = found.database, found.clock, found.settings
    access, posted = ground.access, ground.notices
    access.grant(classroom_role)
    issue = CertificateIssue(posted, clock)
    return [
        (classrooms_pb.desc().services[0], ClassroomService(database, ground.people, found.limiter, clock, settings)),
        (assignments_pb.desc().services[0], AssignmentService(database, access, posted, clock)),
        (submissions_pb.desc().services[0], SubmissionService(database, access, issue, posted, clock)),
        (certificates_pb.desc().services[0], CertificateService(database, issue, clock, settings)),
    ]
