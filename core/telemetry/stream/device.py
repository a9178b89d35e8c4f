"""One connected device."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, cast

from protobuf import Oneof
from protobuf.wkt import Struct, Value

from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.errors import (
    Aborted,
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from core.live.mailbox import Mailbox
from core.signals.model import Column, Device
from core.signals.service import Signals
from core.telemetry.decode import as_json, decode_frame
from core.telemetry.recordings import RecordingKeeper, Save
from core.telemetry.stream.commands import Commands
from core.telemetry.stream.frames import Frame, error_frame, number_of, passed_on, refusal, text_of
from core.telemetry.stream.hub import Hub, Picture
from core.telemetry.stream.intake import Intake, Sent
from core.telemetry.stream.shapes import TYPED_PLATFORMS, Members, shape
from core.telemetry.stream.throttle import CONTROL, DATA, Bucket
from core.telemetry.stream.video import BadPicture, read_picture
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.telemetry.v1.ingest_pb import Point
from gen.busbar.telemetry.v1.stream_pb import Authenticated, CommandStatusAck, DeviceAuth, Telemetry, TelemetryAck

PROTOCOL = 1
FRAME_BYTES = 65_536
"""Frame size that clients of the protocol keep to."""
MOST_POINTS = 10_000
WAITING_FRAMES = 64
"""Frames that may wait for a slow device; a further command finds it busy."""
DATA_FRAMES = frozenset({"telemetry", "video", "video_frame", "output"})
MOST_RUNS = 1000
"""Runs of one `command_sync` that are looked at."""
_ENDS = {"result": "succeeded", "error": "failed", "ack": "acknowledged"}
_ACK: Frame = Oneof(field="telemetry_ack", value=TelemetryAck())
"""Stands for the newest acknowledgement, which is filled in when it is sent."""


class DeviceDesk:
    """What connections of devices need."""

    def __init__(
        self,
        signals: Signals,
        hub: Hub,
        intake: Intake,
        commands: Commands,
        keeper: RecordingKeeper,
        clock: Clock,
    ) -> None:
        self.signals = signals
        self.hub = hub
        self.intake = intake
        self.commands = commands
        self.keeper = keeper
        self.clock = clock


class DeviceConnection:
    """Stores and passes on what a device sends, and hands it its commands."""

    def __init__(self, desk: DeviceDesk, device: Device, auth: DeviceAuth, call: Call, source_bucket: Bucket | None) -> None:
        self.call = call
        self.org_id = call.caller.org_id
        self.source_id = device.slug
        self.device_id = device.id
        self.platform = auth.platform
        empty = Value.from_python([])
        self.sensors: Value | None = auth.sensors or empty
        self.cameras: Value | None = auth.cameras or empty
        self.typed = auth.has_field("protocol") or auth.platform in TYPED_PLATFORMS
        self._auth = auth
        self._acks = auth.acks is not None and auth.acks.to_python() is True
        self._desk = desk
        self._buckets = None if source_bucket is None else (Bucket(*DATA), Bucket(*CONTROL), source_bucket)
        self._out: Mailbox[Frame] = Mailbox(WAITING_FRAMES)
        self.deleted = False
        self._pings = 0
        self._acked = 0
        self._ack_waits = False
        self._unwritten = 0
        self._written = asyncio.Event()
        self._others: dict[str, Callable[[Any], Awaitable[None]]] = {
            "session_started": self._session_started,
            "session_stopped": self._session_stopped,
            "output": self._output,
            "pong": self._pong,
            "heartbeat": self._heartbeat,
            "device_error": self._device_error,
            "command_result": self._command_result,
            "command_ack": self._command_ack,
            "command_status": self._command_status,
            "command_sync": self._command_sync,
            "video_frame": self._video_frame,
            "video": self._video,
        }

    async def run(self, requests: AsyncIterator[Any]) -> AsyncGenerator[Frame]:
        """Yield frames until one side ends."""
        desk = self._desk
        unwatch = desk.signals.watch_deletion(self.device_id, self._deleted)
        desk.hub.attach(self)
        task = asyncio.create_task(self._guarded(requests), name="device frames")
        try:
            yield Oneof(field="authenticated", value=self._welcome())
            for command in self._again():
                yield Oneof(field="command", value=Struct.from_python(command))
            async for frame in self._out:
                if frame is _ACK:
                    self._ack_waits = False
                    yield Oneof(field="telemetry_ack", value=TelemetryAck(seq=self._acked))
                else:
                    yield frame
        finally:
            unwatch()
            desk.hub.detach(self)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(task, return_exceptions=True)

    def deliver(self, command: Members) -> bool:
        """Hand over a command; return whether there was room for it."""
        if not self._out.offer(Oneof(field="command", value=Struct.from_python(command))):
            return False
        self._pings += command.get("type") == "ping"
        return True

    def replaced(self) -> None:
        """End, because a newer connection took this one's place."""
        self._out.close(Aborted("a newer connection took this one's place", reason=ErrorReason.REPLACED, source=self.source_id))

    def credential_ended(self) -> None:
        """End, because the credential did."""
        self._out.close(Unauthenticated("the credential has ended"))

    def _deleted(self) -> None:
        """End, because the source was deleted: what comes next would be of another source of the same name."""
        self.deleted = True
        self._out.close(NotFound(f"source {self.source_id} was deleted", source=self.source_id))

    def stored(self, seq: int | None) -> None:
        """Acknowledge a frame; the newest acknowledgement covers those before it."""
        self._settle()
        if seq is None or not self._acks:
            return
        self._acked = max(self._acked, seq)
        # Of these at most one waits, so it always has a place.
        if not self._ack_waits:
            self._ack_waits = self._out.offer(_ACK, beyond=1)

    def refused(self, seq: int | None, error: DomainError) -> None:
        """Tell that a frame will never be stored."""
        self._settle()
        if not self._out.offer(refusal(error, seq), beyond=WAITING_FRAMES):
            self.failed(error)

    def failed(self, error: DomainError) -> None:
        """End, because frames could not be stored: the device keeps them, and sends them again later."""
        self._settle()
        self._out.close(error)

    def _settle(self) -> None:
        self._unwritten -= 1
        if self._unwritten <= 0:
            self._written.set()

    def _welcome(self) -> Authenticated:
        named = self._auth.has_field("protocol")
        return Authenticated(
            source_id=self.source_id,
            server_time_ms=self._desk.clock.now_us() // 1000,
            protocol=PROTOCOL if named else None,
            max_frame_bytes=FRAME_BYTES if named else None,
            acks=True if self._acks else None,
        )

    def _again(self) -> list[Members]:
        """Return what makes an older device stream again: its stream hangs on the lost connection, and must end first."""
        stream = self._desk.hub.stream(self)
        if stream is None or self.typed:
            return []
        return [shape("stop_stream", {"id": stream.id}, self.source_id, typed=False), stream.command]

    async def _guarded(self, requests: AsyncIterator[Any]) -> None:
        try:
            await self._carry_out(requests)
        except Exception as error:  # noqa: BLE001 - handed to the reader, where the pipeline maps it
            self._out.close(error)

    async def _carry_out(self, requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            frame: Frame | None = request.frame
            if frame is None:
                continue
            try:
                await self._take(frame.field, frame.value)
            except Unavailable:
                raise
            except BadPicture as error:
                await self._out.put(error_frame("INVALID_FRAME_ENCODING", error.message))
            except DomainError as error:
                await self._out.put(refusal(error, (frame.value.seq or None) if frame.field == "telemetry" else None))
        while self._unwritten > 0:
            self._written.clear()
            await self._written.wait()
        self._out.close()

    async def _take(self, kind: str, value: Any) -> None:  # noqa: ANN401 - the member's message or its bytes
        if self._buckets is not None:
            data, control, source = self._buckets
            (data if kind in DATA_FRAMES else control).take()
            if kind == "telemetry":
                source.take()
        if kind == "telemetry":
            await self._telemetry(value)
            return
        other = self._others.get(kind)
        if other is None:
            raise InvalidArgument("the connection is open" if kind.endswith("_auth") else f"{kind} is not for devices")
        await other(value)

    async def _telemetry(self, frame: Telemetry) -> None:
        points = frame.points
        columns = decode_frame(points, self.source_id, frame.session_id, self._desk.clock.now_us(), MOST_POINTS)
        await self._store(columns, frame.seq or None, len(points))

    async def _store(self, columns: list[Column], seq: int | None, points: int) -> None:
        self._unwritten += 1
        try:
            await self._desk.intake.put(self.org_id, Sent(self, seq, columns, points))
        except asyncio.CancelledError:
            self._unwritten -= 1
            raise

    def _tell(self, kind: str, members: Struct, **more: str | int) -> None:
        self._desk.hub.tell(self, passed_on(kind, members, self.source_id, **more))

    async def _session_started(self, members: Struct) -> None:
        await self._save_session(members, "active")
        self._tell("session_started", members)

    async def _session_stopped(self, members: Struct) -> None:
        await self._save_session(members, "completed")
        self._desk.hub.end_stream(self, text_of(members, "session_id"))
        self._tell("session_stopped", members)

    async def _save_session(self, members: Struct, status: str) -> None:
        session_id = text_of(members, "session_id")
        if not 0 < len(session_id) <= 256:  # noqa: PLR2004 - as over REST
            raise InvalidArgument("session_id: must be 1 to 256 characters", field="session_id")
        name = text_of(members, "session_name")[:200]
        wish = Save(session_id, "session", name, self.source_id, status, None)
        await self._desk.keeper.save(self.call.caller, wish)

    async def _output(self, members: Struct) -> None:
        if not self._desk.commands.shell:
            raise FailedPrecondition("output is turned off on this server")
        self._tell("output", members)

    async def _pong(self, members: Struct) -> None:
        # A pong that no dashboard asked for is a sign of life and nothing else.
        if self._pings:
            self._pings -= 1
            self._tell("pong", members)

    async def _heartbeat(self, members: Struct) -> None:
        await self._desk.signals.touch(self.device_id)
        self._tell("heartbeat", members, status="running", timestamp=self._desk.clock.now_us() // 1000)

    async def _device_error(self, members: Struct) -> None:
        told = {name: members.fields[name] for name in ("source", "error", "severity") if name in members.fields}
        value = Value(kind=Oneof(field="struct_value", value=Struct(fields=told)))
        point = Point(metric="device.error", value=value, timestamp=number_of(members, "timestamp"), class_="event")
        await self._store(decode_frame([point], self.source_id, "", self._desk.clock.now_us(), 1), None, 1)
        self._tell("device_error", members)

    async def _command_result(self, members: Struct) -> None:
        state = _ENDS.get(text_of(members, "event"))
        if state is not None:
            await self._desk.commands.answered(self, text_of(members, "id"), state)
        self._tell("command_result", members)

    async def _command_ack(self, members: Struct) -> None:
        self._tell("command_ack", members)

    async def _command_status(self, members: Struct) -> None:
        run_id, seq = text_of(members, "run_id"), number_of(members, "seq")
        if not run_id or seq is None:
            raise InvalidArgument("run_id and seq required")
        if await self._desk.commands.follow(self, run_id, seq, text_of(members, "state")):
            self._tell("command_status", members)
        await self._out.put(Oneof(field="command_status_ack", value=CommandStatusAck(run_id=run_id, seq=seq)))

    async def _command_sync(self, members: Struct) -> None:
        told = as_json(members).get("runs")
        runs = cast("list[Any]", told) if isinstance(told, list) else []
        for run in runs[:MOST_RUNS]:
            if isinstance(run, dict):
                known = cast("Members", run)
                run_id, seq, state = known.get("run_id"), known.get("seq"), known.get("state")
                if isinstance(run_id, str) and isinstance(seq, int | float) and isinstance(state, str):
                    await self._desk.commands.follow(self, run_id, seq, state)
        self._tell("command_sync", members)

    async def _video_frame(self, members: Struct) -> None:
        frame = passed_on("video_frame", members, self.source_id)
        self._desk.hub.show(self.org_id, Picture(self.source_id, text_of(members, "camera_id"), frame))

    async def _video(self, data: bytes) -> None:
        camera, picture = read_picture(data, self.source_id)
        self._desk.hub.show(self.org_id, Picture(self.source_id, camera, Oneof(field="video", value=picture)))
