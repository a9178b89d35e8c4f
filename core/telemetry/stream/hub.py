"""Who is connected to this process, which streams its devices were told to send, and how dashboards learn of both."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from protobuf import Oneof
from protobuf.wkt import Value

from core.live.events import EventBus, Topic
from core.live.shared import share
from core.signals.service import Signals
from core.telemetry.stream.frames import Frame
from core.telemetry.stream.shapes import Members
from gen.busbar.telemetry.v1.stream_pb import OnlineSource, SourceStatus, SourceStreamState

MOST_STREAMS = 100_000
"""Streams remembered at once; the one started longest ago is forgotten first."""


class Link(Protocol):
    """A connected device.

    Attributes:
        typed: Whether it knows typed commands only.
    """

    org_id: str
    source_id: str
    device_id: int
    platform: str
    sensors: Value | None
    cameras: Value | None
    typed: bool

    def deliver(self, command: Members) -> bool:
        """Hand over a command; return whether there was room for it."""
        ...

    def replaced(self) -> None:
        """End, because a newer connection took this one's place."""
        ...


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """A frame for dashboards that may see a source."""

    source_id: str
    frame: Frame


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture for dashboards that chose its camera."""

    source_id: str
    camera_id: str
    frame: Frame


@dataclass(frozen=True, slots=True)
class Stream:
    """The last stream that a device was told to send, as it was told; `kind` is `start_stream` or `start_session`."""

    kind: str
    id: str
    command: Members

    @property
    def interval_ms(self) -> float | None:
        """Milliseconds between values, if they were named."""
        interval = self._told("interval_ms")
        return float(interval) if isinstance(interval, int | float) and not isinstance(interval, bool) else None

    @property
    def store(self) -> bool | None:
        """Whether the device also posts what it streams, if that was said."""
        store = self._told("store")
        return store if isinstance(store, bool) else None

    def _told(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        return self.command.get(name, self.command.get("params", {}).get(name))


def live_topic(org_id: str) -> Topic:
    """Return the topic of frames for the dashboards of an organisation."""
    return org_id, "telemetry:live"


def picture_topic(org_id: str) -> Topic:
    """Return the topic of its pictures."""
    return org_id, "telemetry:pictures"


class Hub:
    """The connected devices of all organisations."""

    def __init__(self, signals: Signals, bus: EventBus) -> None:
        self._signals = signals
        self._bus = bus
        self._links: dict[str, dict[str, Link]] = {}
        self._streams: OrderedDict[tuple[str, str], Stream] = OrderedDict()

    def attach(self, link: Link) -> None:
        """Make a connection the one of its source; an earlier one ends."""
        links = self._links.setdefault(link.org_id, {})
        earlier = links.get(link.source_id)
        links[link.source_id] = link
        self._signals.device_connected(link.device_id)
        if earlier is not None:
            self._signals.device_disconnected(earlier.device_id)
            earlier.replaced()
        self._tell_status(link, "online")

    def detach(self, link: Link) -> None:
        """Take a connection away; its source is offline only if no newer one took its place."""
        links = self._links.get(link.org_id, {})
        if links.get(link.source_id) is not link:
            return
        del links[link.source_id]
        if not links:
            del self._links[link.org_id]
        self._signals.device_disconnected(link.device_id)
        if link.typed:
            # Only older devices are told to stream again when they come back.
            self.end_stream(link, "*")
        self._tell_status(link, "offline")

    def find(self, org_id: str, source_id: str) -> Link | None:
        """Return the connection of a source."""
        return self._links.get(org_id, {}).get(source_id)

    def only(self, org_id: str) -> Link | None:
        """Return the only connection of an organisation; None when there are none or several."""
        links = self._links.get(org_id, {})
        return next(iter(links.values())) if len(links) == 1 else None

    def online(self, org_id: str, sees: Callable[[str], bool]) -> list[OnlineSource]:
        """Return the connected devices of an organisation that somebody sees, by source."""
        return [self._online(link) for source_id, link in sorted(self._links.get(org_id, {}).items()) if sees(source_id)]

    def stream(self, link: Link) -> Stream | None:
        """Return the stream that a device was told to send."""
        return self._streams.get((link.org_id, link.source_id))

    def note_command(self, link: Link, kind: str, command: Members) -> None:
        """Note what a command that was delivered does to the stream of its device."""
        known: Members = command.get("params", {}) if link.typed else command
        if kind in ("start_stream", "start_session"):
            identity = command.get("id") if kind == "start_stream" else known.get("session_id")
            self._begin(link, Stream(kind, str(identity or ""), command))
        elif kind == "stop_stream":
            self.end_stream(link, str(known.get("stream_id") or "*"))
        elif kind == "stop_session":
            self.end_stream(link, str(known.get("session_id") or "*"))

    def end_stream(self, link: Link, identity: str) -> None:
        """Note that a device sends a stream no more; `*` is any."""
        stream = self._streams.get((link.org_id, link.source_id))
        if stream is None or identity not in ("*", stream.id):
            return
        del self._streams[link.org_id, link.source_id]
        self.tell(link, _state(link, None))

    def _begin(self, link: Link, stream: Stream) -> None:
        key = (link.org_id, link.source_id)
        self._streams[key] = stream
        self._streams.move_to_end(key)
        if len(self._streams) > MOST_STREAMS:
            self._streams.popitem(last=False)
        self.tell(link, _state(link, stream))

    def tell(self, link: Link, frame: Frame) -> None:
        """Tell the dashboards of a device's organisation."""
        share(frame.value)
        self._bus.publish(live_topic(link.org_id), LiveFrame(link.source_id, frame), remember=False)

    def show(self, org_id: str, picture: Picture) -> None:
        """Show a picture; one that still waits for a slow dashboard gives way to it."""
        if picture.frame.field != "video":
            share(picture.frame.value)
        key = (picture.source_id, picture.camera_id)
        self._bus.publish(picture_topic(org_id), picture, key=key, remember=False)

    def _tell_status(self, link: Link, status: str) -> None:
        value = SourceStatus(
            source_id=link.source_id, status=status, platform=link.platform, sensors=link.sensors, cameras=link.cameras
        )
        self.tell(link, Oneof(field="source_status", value=value))

    def _online(self, link: Link) -> OnlineSource:
        stream = self.stream(link)
        return OnlineSource(
            source_id=link.source_id,
            platform=link.platform,
            sensors=link.sensors,
            cameras=link.cameras,
            is_streaming=stream is not None,
            stream_interval_ms=None if stream is None else stream.interval_ms,
            store_data=None if stream is None else stream.store,
        )


def _state(link: Link, stream: Stream | None) -> Frame:
    interval, store = (None, None) if stream is None else (stream.interval_ms, stream.store)
    value = SourceStreamState(source_id=link.source_id, is_streaming=stream is not None, interval_ms=interval, store=store)
    return Oneof(field="source_stream_state", value=value)
