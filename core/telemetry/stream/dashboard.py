"""One connected dashboard."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any

from protobuf import Oneof
from protobuf.wkt import Struct

from core.kernel.call import Call
from core.kernel.errors import DomainError, InvalidArgument, PermissionDenied, Unauthenticated, Unavailable
from core.live.events import EventBus, Lagged, Policy, Reader
from core.live.mailbox import Mailbox
from core.telemetry.decode import as_json
from core.telemetry.stream.auth import Admitted
from core.telemetry.stream.commands import BUSY, NOT_CONNECTED, Commands
from core.telemetry.stream.fanout import Fanouts
from core.telemetry.stream.frames import Frame, error_frame, refusal
from core.telemetry.stream.hub import Hub, LiveFrame, Picture, live_topic, picture_topic
from core.telemetry.stream.interests import Interests
from core.telemetry.stream.shapes import RAW, TYPED
from core.telemetry.stream.throttle import CONTROL, DATA, Bucket
from gen.busbar.telemetry.v1.stream_pb import DashboardInit, ServerPong, SetThrottle, Subscribe

PAUSE_SECONDS = 10.0
"""How long a hidden dashboard may stop telemetry."""
WAITING_FRAMES = 32
"""Frames ready to be sent; further ones wait where they are counted."""
WAITING_EVENTS = 256
WAITING_PICTURES = 64
COMMANDS = RAW | TYPED
FLOW = frozenset({"ready", "ping"})
"""Frames that a dashboard sends as often as it gets telemetry."""
_FAILURES = {
    NOT_CONNECTED: ("DEVICE_NOT_CONNECTED", "device not connected"),
    BUSY: ("DEVICE_BUSY", "device is too slow to take commands"),
}


class DashboardConnection:
    """Shows what devices send, and carries commands to them."""

    def __init__(
        self,
        hub: Hub,
        bus: EventBus,
        fanouts: Fanouts,
        commands: Commands,
        call: Call,
        *,
        admitted: Admitted,
        limited: bool,
    ) -> None:
        self._hub = hub
        self._bus = bus
        self._commands = commands
        self._caller = call.caller
        self._org_id = call.caller.org_id
        self._data_api = admitted.data_api
        self._shared = admitted.shared
        self._buckets = (Bucket(*DATA), Bucket(*CONTROL)) if limited else None
        self._fanouts = fanouts
        self._interests = Interests(call.caller, everything=not admitted.data_api)
        self._out: Mailbox[Frame] = Mailbox(WAITING_FRAMES)
        self._view = fanouts.open(self._org_id, self._interests)
        self._go = asyncio.Event()
        self._pull = False
        self._wanted = True
        self._paused_until = 0.0

    async def run(self, requests: AsyncIterator[Any]) -> AsyncGenerator[Frame]:
        """Yield frames until one side ends."""
        frames = self._bus.subscribe(live_topic(self._org_id), policy=Policy.LAGGED, size=WAITING_EVENTS)
        pictures = self._bus.subscribe(picture_topic(self._org_id), policy=Policy.CONFLATE, size=WAITING_PICTURES)
        work = (
            self._send_batches(),
            self._send_events(),
            self._pass_on(frames),
            self._show(pictures),
            self._carry_out(requests),
        )
        tasks = [asyncio.create_task(self._guarded(part), name="dashboard") for part in work]
        try:
            yield Oneof(field="init", value=DashboardInit(online_sources=self._hub.online(self._org_id, self._interests.sees)))
            async for frame in self._out:
                yield frame
        finally:
            for reader in (frames, pictures):
                reader.close()
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)
            await self._fanouts.close(self._org_id, self._view)

    def credential_ended(self) -> None:
        """End, because the credential did."""
        self._out.close(Unauthenticated("the credential has ended"))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Run one side; its failure ends the connection with that error."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - handed to the reader, where the pipeline maps it
            self._out.close(error)

    async def _send_batches(self) -> None:
        while True:
            await self._view.some.wait()
            await self._may_send()
            frames = self._view.take()
            self._wanted = False
            for frame in frames:
                await self._out.put(frame)

    async def _may_send(self) -> None:
        """Wait until the dashboard wants a batch."""
        while True:
            pause = self._paused_until - time.monotonic()
            if pause <= 0 and (self._wanted or not self._pull):
                return
            self._go.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause if pause > 0 else None):
                    await self._go.wait()

    async def _send_events(self) -> None:
        async for frame in self._view.events:
            await self._out.put(frame)
            if self._view.dropped:
                dropped, self._view.dropped = self._view.dropped, 0
                await self._out.put(error_frame("LAGGED", f"the dashboard is too slow: {dropped} frames were dropped"))

    async def _pass_on(self, frames: Reader) -> None:
        async for _, event in frames:
            if isinstance(event, Lagged):
                missed = "some" if event.missed is None else event.missed
                await self._out.put(error_frame("LAGGED", f"the dashboard is too slow: {missed} frames were dropped"))
            elif isinstance(event, LiveFrame) and self._interests.sees(event.source_id):
                await self._out.put(event.frame)

    async def _show(self, pictures: Reader) -> None:
        async for _, event in pictures:
            if isinstance(event, Picture) and self._interests.picture(event.source_id, event.camera_id):
                await self._out.put(event.frame)

    async def _carry_out(self, requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            frame: Frame | None = request.frame
            if frame is None:
                continue
            try:
                await self._take(frame.field, frame.value)
            except Unavailable:
                raise
            except DomainError as error:
                await self._out.put(refusal(error))
        self._out.close()

    async def _take(self, kind: str, value: Any) -> None:  # noqa: ANN401 - the member's message
        if self._buckets is not None:
            self._buckets[kind not in FLOW].take()
        if kind == "ready":
            self._pull = not self._data_api
            self._wanted = True
            self._go.set()
        elif isinstance(value, Subscribe):
            self._interests.choose(value)
            self._view.chosen()
            if not (self._data_api or self._pull):
                # Whoever subscribes asks for each batch from now on, but for the first.
                self._pull = self._wanted = True
        elif isinstance(value, SetThrottle):
            self._paused_until = time.monotonic() + PAUSE_SECONDS if value.enabled else 0.0
            self._go.set()
        elif kind == "ping" and isinstance(value, Struct) and "source_id" not in value.fields:
            await self._out.put(Oneof(field="pong", value=ServerPong()))
        elif kind in COMMANDS and self._shared:
            raise PermissionDenied("shared view is read-only")
        elif kind in COMMANDS:
            await self._command(kind, value)
        else:
            raise InvalidArgument("the connection is open" if kind.endswith("_auth") else f"{kind} is not for dashboards")

    async def _command(self, kind: str, members: Struct) -> None:
        outcome, _ = await self._commands.send(self._caller, kind, as_json(members))
        failure = _FAILURES.get(outcome)
        if failure is not None:
            await self._out.put(error_frame(*failure))
