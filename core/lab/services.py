"""Which class stands behind which service of the lab."""

from __future__ import annotations

from protobuf import DescService

from core.foundations import Foundations
from core.identity.members import Members
from core.identity.signing import Signer
from core.lab.access_tokens import AccessTokens
from core.lab.auth import AuthService
from core.lab.datapoint_messages import Presenter
from core.lab.datapoints import DatapointService
from core.lab.erasing import Erasing
from core.lab.event_directory import EventDirectory
from core.lab.event_keeper import EventKeeper
from core.lab.events import EventService
from core.lab.events_gone import EventsGone
from core.lab.experiment_directory import ExperimentDirectory
from core.lab.experiments import ExperimentService
from core.lab.ingest import LabIngest
from core.lab.latest import LatestDatapoints
from core.lab.live_datapoints import LiveDatapoints
from core.lab.log_book import LogBook
from core.lab.logging import LoggingService
from core.lab.stream import StreamService
from core.lab.tokens import TokenService
from core.lab.users import UserService
from core.lab.users_gone import UsersGone
from gen.busbar.lab.v1 import (
    auth_pb,
    datapoints_pb,
    events_pb,
    experiments_pb,
    logging_pb,
    stream_pb,
    tokens_pb,
    users_pb,
)


def services(found: Foundations) -> list[tuple[DescService, object]]:
    """Build the services and what they share."""
    database, credentials, clock = found.database, found.credentials, found.clock
    members = Members(database, credentials, clock)
    signer = Signer(found.secret, "lab-access", clock)
    tokens = found.keep(AccessTokens(credentials, signer, clock, found.settings.lab.access_token_minutes))
    gone = UsersGone()
    book = LogBook(clock)
    gone.on_forget(book.forget_user)
    return [
        *_measuring(found, book, gone),
        (auth_pb.desc().services[0], AuthService(database, found.identity, members, tokens, book)),
        (tokens_pb.desc().services[0], TokenService(database, credentials)),
        (users_pb.desc().services[0], UserService(database, members, credentials, gone)),
        (logging_pb.desc().services[0], LoggingService(database, book)),
    ]


def _measuring(found: Foundations, book: LogBook, users_gone: UsersGone) -> list[tuple[DescService, object]]:
    """Build what measures: events, experiments and datapoints."""
    database, signals, clock = found.database, found.signals, found.clock
    events, experiments = found.keep(EventDirectory(database, signals)), found.keep(ExperimentDirectory(database))
    erasing = found.keep(Erasing())
    keeper = found.keep(EventKeeper(database, signals, events, EventsGone(), erasing, clock))
    service = found.keep(ExperimentService(database, signals, events, experiments, book, erasing=erasing, clock=clock))
    users_gone.on_forget(service.forget_user, service.user_forgotten)
    users_gone.on_forget(keeper.forget_user, keeper.user_forgotten)
    presenter = Presenter(events, experiments)
    ingest = found.keep(LabIngest(database, signals, events, experiments, clock))
    latest = LatestDatapoints(signals, events, presenter)
    live = LiveDatapoints(signals, events, presenter, found.bus, clock)
    return [
        (events_pb.desc().services[0], EventService(database, signals, events, keeper)),
        (experiments_pb.desc().services[0], service),
        (datapoints_pb.desc().services[0], DatapointService(signals, events, ingest, latest, presenter, clock)),
        (stream_pb.desc().services[0], StreamService(live, ingest)),
    ]
