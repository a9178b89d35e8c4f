"""Which class stands behind which service of the maker area."""

from __future__ import annotations

from protobuf import DescService

from core.foundations import Foundations
from core.maker import notices
from core.maker.agent_keys import AgentKeyService
from core.maker.auth import AuthService
from core.maker.boards import BoardService
from core.maker.home_assistant import HomeAssistantService
from core.maker.notices import Notices
from core.maker.pins import PinService
from gen.busbar.maker.v1 import agent_keys_pb, auth_pb, boards_pb, home_assistant_pb, pins_pb


def services(found: Foundations) -> list[tuple[DescService, object]]:
    """Build the services and what they share."""
    database, credentials, signals, bus, clock = found.database, found.credentials, found.signals, found.bus, found.clock
    posted = Notices(database, found.outbox, bus)
    found.handle(notices.KIND, posted.handler)
    boards = BoardService(database, credentials, signals, bus, clock, found.settings)
    pins = PinService(boards, signals, bus, found.limiter, clock)
    return [
        (auth_pb.desc().services[0], AuthService(found.identity, found.limiter, clock)),
        (boards_pb.desc().services[0], boards),
        (pins_pb.desc().services[0], pins),
        (agent_keys_pb.desc().services[0], AgentKeyService(database, credentials, boards, clock, found.settings.quotas)),
        (home_assistant_pb.desc().services[0], HomeAssistantService(boards, pins)),
    ]
