"""Which class stands behind which service of the maker area."""

from __future__ import annotations

from protobuf import DescService

from core.documents.documents import Documents
from core.foundations import Foundations
from core.maker import notices
from core.maker.access import ProjectAccess
from core.maker.agent_keys import AgentKeyService
from core.maker.auth import AuthService
from core.maker.boards import BoardService
from core.maker.designs import DesignService
from core.maker.document_history import DocumentHistoryService
from core.maker.documents import ProjectDocuments
from core.maker.firmware import FirmwareService
from core.maker.home_assistant import HomeAssistantService
from core.maker.notices import Notices
from core.maker.people import People
from core.maker.pins import PinService
from core.maker.widgets import WidgetService
from gen.busbar.maker.v1 import (
    agent_keys_pb,
    auth_pb,
    boards_pb,
    designs_pb,
    document_history_pb,
    firmware_pb,
    home_assistant_pb,
    pins_pb,
    widgets_pb,
)


def services(found: Foundations) -> list[tuple[DescService, object]]:
    """Build the services and what they share."""
    database, credentials, signals, bus, clock = found.database, found.credentials, found.signals, found.bus, found.clock
    posted = Notices(database, found.outbox, bus)
    found.handle(notices.KIND, posted.handler)
    boards = BoardService(database, credentials, signals, bus, clock, found.settings)
    pins = PinService(boards, signals, bus, found.limiter, clock)
    documents = ProjectDocuments(database, Documents(clock), ProjectAccess(), People(), bus, clock)
    return [
        (auth_pb.desc().services[0], AuthService(found.identity, found.limiter, clock)),
        (boards_pb.desc().services[0], boards),
        (pins_pb.desc().services[0], pins),
        (agent_keys_pb.desc().services[0], AgentKeyService(database, credentials, boards, clock, found.settings.quotas)),
        (home_assistant_pb.desc().services[0], HomeAssistantService(boards, pins)),
        (firmware_pb.desc().services[0], FirmwareService(documents)),
        (designs_pb.desc().services[0], DesignService(documents)),
        (widgets_pb.desc().services[0], WidgetService(documents)),
        (document_history_pb.desc().services[0], DocumentHistoryService(documents)),
    ]
