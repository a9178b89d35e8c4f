"""Which class stands behind which service of the telemetry area."""

from __future__ import annotations

from protobuf import DescService

from core.foundations import Foundations
from core.identity.signing import Signer
from core.telemetry.dashboard_tokens import DashboardTokens
from core.telemetry.export import ExportService
from core.telemetry.grants import DeviceGrants
from core.telemetry.ingest import IngestService
from core.telemetry.keys import KeyService
from core.telemetry.pairing import PairingService
from core.telemetry.query import QueryService
from core.telemetry.quotas import PointQuotas
from core.telemetry.recordings import RecordingKeeper
from core.telemetry.replay import ReplayService
from core.telemetry.runs import RunService
from core.telemetry.sessions import SessionService
from core.telemetry.shares import ShareService
from core.telemetry.sign_in import SignInService
from core.telemetry.sources import SourceService
from core.telemetry.stream.service import StreamService
from core.telemetry.subscribe import SubscribeService
from gen.busbar.telemetry.v1 import (
    export_pb,
    ingest_pb,
    keys_pb,
    pairing_pb,
    query_pb,
    replay_pb,
    runs_pb,
    sessions_pb,
    shares_pb,
    sign_in_pb,
    sources_pb,
    stream_pb,
    subscribe_pb,
)


def services(found: Foundations) -> list[tuple[DescService, object]]:
    """Build the services and what they share."""
    database, credentials, signals, bus, clock = found.database, found.credentials, found.signals, found.bus, found.clock
    quotas = found.keep(PointQuotas(database, clock))
    tokens = found.keep(DashboardTokens(Signer(found.secret, "dashboard", clock), credentials))
    keeper = RecordingKeeper(signals, clock)
    grants = DeviceGrants(database, credentials, clock)
    stream = StreamService(
        database,
        credentials,
        signals,
        clock,
        bus=bus,
        keeper=keeper,
        tokens=tokens,
        quotas=quotas,
        shell=found.settings.stream.execute,
        limited=found.settings.rate_limits == "on",
    )
    subscribe = SubscribeService(signals, bus, credentials, clock, found.settings.stream.resume_hours)
    return [
        (ingest_pb.desc().services[0], IngestService(signals, clock, found.settings.quotas, quotas)),
        (query_pb.desc().services[0], QueryService(signals, clock)),
        (export_pb.desc().services[0], ExportService(signals, clock)),
        (replay_pb.desc().services[0], ReplayService(signals, bus, clock)),
        (subscribe_pb.desc().services[0], subscribe),
        (keys_pb.desc().services[0], KeyService(database, credentials, quotas, clock)),
        (pairing_pb.desc().services[0], PairingService(database, credentials, signals, found.limiter, clock)),
        (sign_in_pb.desc().services[0], SignInService(found.identity, grants, tokens, bus, found.limiter, found.settings)),
        (sources_pb.desc().services[0], SourceService(database, credentials, signals, clock, found.settings.live)),
        (sessions_pb.desc().services[0], SessionService(keeper, clock)),
        (shares_pb.desc().services[0], ShareService(database, credentials, signals, clock)),
        (runs_pb.desc().services[0], RunService(keeper, clock)),
        (stream_pb.desc().services[0], found.keep(stream)),
    ]
