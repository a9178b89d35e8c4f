"""The streaming rpcs: sockets of devices and dashboards, and commands from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from core.identity.credentials import Credentials
from core.identity.lease import Lease
from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.errors import DeadlineExceeded, InvalidArgument, NotFound
from core.kernel.ids import new_id
from core.live.events import EventBus
from core.signals.service import Signals
from core.storage.database import Database
from core.telemetry.access import may_see
from core.telemetry.dashboard_tokens import DashboardTokens
from core.telemetry.decode import as_json
from core.telemetry.quotas import PointQuotas
from core.telemetry.recordings import RecordingKeeper
from core.telemetry.stream.auth import DEFAULT_ROOM, Admitted, Doorkeeper, wrong_first_frame
from core.telemetry.stream.commands import DELIVERED, Commands
from core.telemetry.stream.dashboard import DashboardConnection
from core.telemetry.stream.device import DeviceConnection, DeviceDesk
from core.telemetry.stream.fanout import Fanouts
from core.telemetry.stream.frames import Frame
from core.telemetry.stream.hub import Hub
from core.telemetry.stream.intake import Intake
from core.telemetry.stream.shapes import RAW, Members
from core.telemetry.stream.throttle import SourceBuckets
from gen.busbar.telemetry.v1.stream_pb import (
    BrowserAuth,
    ConnectDashboardRequest,
    ConnectDashboardResponse,
    ConnectDeviceRequest,
    ConnectDeviceResponse,
    ConnectPartyRequest,
    ConnectPartyResponse,
    DataApiAuth,
    DeviceAuth,
    ListCommandsRequest,
    ListCommandsResponse,
    PartyOpen,
    SendCommandRequest,
    SendCommandResponse,
    ShareAuth,
)

HANDSHAKE_SECONDS = 10.0
"""How long a connection may take to say who it is."""


class StreamService:
    """Connects devices with dashboards."""

    def __init__(  # noqa: PLR0913 - it joins that many foundations
        self,
        database: Database,
        credentials: Credentials,
        signals: Signals,
        clock: Clock,
        *,
        bus: EventBus,
        keeper: RecordingKeeper,
        tokens: DashboardTokens,
        quotas: PointQuotas,
        shell: bool = False,
        limited: bool = True,
    ) -> None:
        self.hub = Hub(signals, bus)
        self._signals = signals
        self._credentials = credentials
        self._bus = bus
        self._clock = clock
        self._limited = limited
        self._fanouts = Fanouts(bus)
        self._doorkeeper = Doorkeeper(credentials, tokens)
        self._commands = Commands(self.hub, database, clock, shell=shell)
        self._intake = Intake(signals, quotas)
        self._desk = DeviceDesk(signals, self.hub, self._intake, self._commands, keeper, clock)
        self._source_buckets = SourceBuckets()

    async def stop(self) -> None:
        """Store what devices sent before their connections ended."""
        await self._intake.settle()

    async def connect_device(
        self, requests: AsyncIterator[ConnectDeviceRequest], call: Call
    ) -> AsyncIterator[ConnectDeviceResponse]:
        """Talk with a device."""
        first = await _first(requests)
        if not isinstance(first, DeviceAuth):
            raise wrong_first_frame(device=True, dashboard=False)
        async with aclosing(self._device(first, requests, call, DEFAULT_ROOM)) as frames:
            async for frame in frames:
                yield ConnectDeviceResponse(frame=frame)

    async def connect_dashboard(
        self, requests: AsyncIterator[ConnectDashboardRequest], call: Call
    ) -> AsyncIterator[ConnectDashboardResponse]:
        """Talk with a dashboard."""
        first = await _first(requests)
        if not isinstance(first, BrowserAuth | ShareAuth | DataApiAuth):
            raise wrong_first_frame(device=False, dashboard=True)
        async with aclosing(self._dashboard(first, requests, call, DEFAULT_ROOM)) as frames:
            async for frame in frames:
                yield ConnectDashboardResponse(frame=frame)

    async def connect_party(
        self, requests: AsyncIterator[ConnectPartyRequest], call: Call
    ) -> AsyncIterator[ConnectPartyResponse]:
        """Talk with either; the first frame tells with which."""
        opening = await _first(requests)
        if not isinstance(opening, PartyOpen):
            raise InvalidArgument.field("open", "must be the first frame")
        first = await _first(requests)
        if isinstance(first, DeviceAuth):
            side = self._device(first, requests, call, opening.org_id)
        elif isinstance(first, BrowserAuth | ShareAuth | DataApiAuth):
            side = self._dashboard(first, requests, call, opening.org_id)
        else:
            raise wrong_first_frame(device=True, dashboard=True)
        async with aclosing(side) as frames:
            async for frame in frames:
                yield ConnectPartyResponse(frame=frame)

    async def send_command(self, request: SendCommandRequest, call: Call) -> SendCommandResponse:
        """Send a command to one device."""
        caller, source_id = call.caller, request.source_id
        if self._signals.find_device(caller.org_id, source_id) is None or not may_see(caller, source_id):
            raise NotFound(f"source {source_id} not found", source=source_id)
        params: Members = {} if request.params is None else as_json(request.params)
        identity = request.id or new_id("run_")
        if request.command in RAW:
            kind: str = request.command
            members: Members = {"id": identity, **params}
        else:
            kind = "typed_command"
            members = {"id": identity, "command": request.command, "params": params}
        outcome, answers_to = await self._commands.send(caller, kind, {**members, "source_id": source_id})
        return SendCommandResponse(delivered=outcome == DELIVERED, id=answers_to or identity, outcome=outcome)

    async def list_commands(self, request: ListCommandsRequest, call: Call) -> ListCommandsResponse:
        """List the record of commands."""
        return await self._commands.list(call.caller, request)

    async def _device(self, auth: DeviceAuth, requests: AsyncIterator[Any], call: Call, room: str) -> AsyncGenerator[Frame]:
        admitted, source_id = await self._doorkeeper.device(auth, call, room)
        org_id = admitted.principal.org_id
        name = None if auth.source_name is None else auth.source_name.to_python()
        device = await self._signals.ensure_device(org_id, source_id, name=name if isinstance(name, str) else None)
        await self._signals.touch(device.id)
        bucket = self._source_buckets.of(org_id, source_id) if self._limited else None
        connection = DeviceConnection(self._desk, device, auth, call, bucket)
        lease = self._lease(admitted, connection.credential_ended)
        try:
            async with aclosing(connection.run(requests)) as frames:
                async for frame in frames:
                    yield frame
        finally:
            lease.close()

    async def _dashboard(
        self, auth: BrowserAuth | ShareAuth | DataApiAuth, requests: AsyncIterator[Any], call: Call, room: str
    ) -> AsyncGenerator[Frame]:
        admitted = await self._doorkeeper.dashboard(auth, call, room)
        connection = DashboardConnection(
            self.hub, self._bus, self._fanouts, self._commands, call, admitted=admitted, limited=self._limited
        )
        lease = self._lease(admitted, connection.credential_ended)
        try:
            async with aclosing(connection.run(requests)) as frames:
                async for frame in frames:
                    yield frame
        finally:
            lease.close()

    def _lease(self, admitted: Admitted, ended: Callable[[], None]) -> Lease:
        return Lease(self._credentials, self._clock, admitted.principal, admitted.secret, ended)


async def _first(requests: AsyncIterator[Any]) -> object:
    """Return what is in the next frame, which must come soon; None when there is none."""
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            request = await anext(requests, None)
    except TimeoutError as error:
        raise DeadlineExceeded("the first message did not come in time") from error
    return None if request is None or request.frame is None else request.frame.value
