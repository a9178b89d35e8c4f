"""The bus between replicas, over one NATS JetStream stream.

Each replica sends its events to the stream and reads the stream from end to end into a bus of its own, from which its readers
are served. The stream's order is the order of all replicas, and cursors are made from it, so that a reader may resume at any
replica. A cursor is the stream's birth in microseconds, plus a block of numbers for each message of the stream: it grows even
when the stream is lost and made anew.

What is published while NATS is away waits, up to a limit. Beyond that it is dropped, and every reader of every replica is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Hashable
from typing import Any, Protocol, cast

import msgspec
import nats
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js.api import ConsumerConfig, DeliverPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from core.kernel.clock import MICROSECONDS
from core.kernel.errors import Unavailable
from core.kernel.ids import new_id
from core.live.bus import Bus, Subscription
from core.live.events import Policy, Topic

log = structlog.get_logger("busbar.live")

STREAM = "BUSBAR_LIVE"
MOST_MESSAGES = 65_536
"""Messages that the stream keeps."""
EVENTS_PER_MESSAGE = 64
"""Cursors that belong to one message. At 10,000 messages a second cursors still grow slower than the clock."""
BYTES_PER_MESSAGE = 262_144
MOST_WAITING = 16_384
"""Events that wait for NATS before they are dropped."""
SECONDS = 5.0
RETRY_SECONDS = 0.2


class Codec(Protocol):
    """Turns events into bytes and back. Both ways must know every kind of event that is published."""

    def encode(self, event: object) -> bytes:
        """Return the bytes of an event."""
        ...

    def decode(self, data: bytes) -> object:
        """Return the event of some bytes."""
        ...


class _Event(msgspec.Struct, array_like=True):
    org_id: str
    name: str
    key: Any
    remember: bool
    data: bytes


class _Outgoing(msgspec.Struct, array_like=True):
    """Events of one replica, in order; `lost` when some before them were dropped."""

    lost: bool
    events: list[msgspec.Raw]


class _Message(msgspec.Struct, array_like=True):
    """The same as it is read."""

    lost: bool
    events: list[_Event]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Message)


class NatsBus:
    """A bus that is shared by all replicas on one NATS. Keys must be strings, numbers, None, or tuples of these."""

    def __init__(
        self,
        servers: str | list[str],
        codec: Codec,
        *,
        bus: Bus | None = None,
        stream: str = STREAM,
        connect_seconds: float = SECONDS,
    ) -> None:
        self._servers = servers
        self._codec = codec
        self._bus = bus or Bus()
        self._stream = stream
        self._connect_seconds = connect_seconds
        self._subject = f"{stream.lower()}.events"
        self._waiting: deque[bytes] = deque()
        self._some_wait = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()
        self._closing = False
        self._lost = False
        self._born_us: int = 0
        self._last = 0
        self._progress = asyncio.Condition()
        self._attaching = asyncio.Lock()
        self._sender: asyncio.Task[None] | None = None
        self._client: Client | None = None
        self._feed: JetStreamContext.PushSubscription | None = None

    @property
    def cursor(self) -> int:
        """Cursor of the newest event that this replica has seen."""
        return self._bus.cursor

    async def start(self) -> None:
        """Connect, and catch up with what the stream keeps.

        Raises:
            Unavailable: NATS does not answer, or has no JetStream.
        """
        try:
            async with asyncio.timeout(self._connect_seconds):
                self._client = await nats.connect(  # pyright: ignore[reportUnknownMemberType] - its options are untyped
                    self._servers,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RETRY_SECONDS,  # pyright: ignore[reportArgumentType] - any number of seconds does
                    reconnected_cb=self._reconnected,
                    error_cb=_note,
                )
                newest = await self._attach()
                async with self._progress:
                    await self._progress.wait_for(lambda: self._last >= newest)
        except (NatsError, OSError, TimeoutError) as error:
            await self.close()
            raise Unavailable("the live bus between replicas is unavailable", retry_after=1) from error
        self._sender = asyncio.create_task(self._send(), name="live-sender")

    async def close(self) -> None:
        """Send what waits, as far as NATS takes it in time, and end every reader."""
        if self._sender is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SECONDS if self._client and self._client.is_connected else 0):
                    await self._sent.wait()
            # Before Python 3.12 `wait_for`, which the client uses, may swallow a cancellation; the flag ends the task then.
            self._closing = True
            self._some_wait.set()
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
            self._sender = None
        if self._client is not None:
            await self._client.close()
            self._client = None
        await self._bus.close()

    def publish(self, topic: Topic, event: object, *, key: Hashable | None = None, remember: bool = True) -> int:
        """Send an event to every replica, this one among them. Returns the newest cursor before it."""
        data = _encoder.encode(_Event(topic[0], topic[1], key, remember, self._codec.encode(event)))
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.clear()
            self._lost = True
        self._waiting.append(data)
        self._sent.clear()
        self._some_wait.set()
        return self._bus.cursor

    def subscribe(self, topics: Topic | list[Topic], *, policy: Policy, size: int, after: int | None = None) -> Subscription:
        """Return a reader of one topic or several; see `Bus.subscribe`. `after` may come from another replica."""
        return self._bus.subscribe(topics, policy=policy, size=size, after=after)

    async def _send(self) -> None:
        while not self._closing:
            await self._some_wait.wait()
            await self._deliver(_encoder.encode(self._batch()))
            if not self._waiting and not self._lost:
                self._some_wait.clear()
                self._sent.set()

    def _batch(self) -> _Outgoing:
        message = _Outgoing(self._lost, [])
        self._lost = False
        size = 0
        while self._waiting and len(message.events) < EVENTS_PER_MESSAGE:
            size += len(self._waiting[0])
            if message.events and size > BYTES_PER_MESSAGE:
                break
            message.events.append(msgspec.Raw(self._waiting.popleft()))
        return message

    async def _deliver(self, data: bytes) -> None:
        """Send a message until NATS has taken it. Its id makes NATS drop it when it had taken it before."""
        headers = {"Nats-Msg-Id": new_id()}
        while self._client is not None and not self._closing:
            try:
                await _jetstream(self._client).publish(self._subject, data, timeout=SECONDS, headers=headers)
            except MaxPayloadError:
                log.warning("event too large for NATS", bytes=len(data))
                self._lost = True
                return
            except (NatsError, OSError):
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _reconnected(self) -> None:
        while self._client is not None and self._client.is_connected:
            try:
                await self._attach()
            except (NatsError, OSError):
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _attach(self) -> int:
        """Read the stream on from where this replica is, and return the sequence of its newest message."""
        client = self._client
        if client is None:
            return 0
        async with self._attaching:
            if self._feed is not None:
                with contextlib.suppress(NatsError, OSError):
                    await self._feed.unsubscribe()
            info = await self._open_stream(_jetstream(client))
            self._find_place(info)
            place = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self._last + 1)
            self._feed = await _jetstream(client).subscribe(
                self._subject, stream=self._stream, ordered_consumer=True, config=place, cb=self._take
            )
            return info.state.last_seq

    async def _open_stream(self, js: JetStreamContext) -> StreamInfo:
        try:
            return await js.stream_info(self._stream)
        except NotFoundError:
            # Of messages only the count is bounded: with any other limit, holes could open in the middle of the stream.
            wanted = StreamConfig(
                name=self._stream, subjects=[self._subject], storage=StorageType.MEMORY, max_msgs=MOST_MESSAGES
            )
            await js.add_stream(wanted)  # pyright: ignore[reportUnknownMemberType]
            return await js.stream_info(self._stream)

    def _find_place(self, info: StreamInfo) -> None:
        """Stay in place while the stream still holds what comes next; else begin with the oldest that it holds."""
        born_us = int(info.created.timestamp() * MICROSECONDS) if info.created else 0
        oldest = max(info.state.first_seq, 1)
        if born_us == self._born_us and oldest <= self._last + 1:
            return
        self._born_us, self._last = born_us, oldest - 1
        self._bus.skip(self._cursor(oldest) - 1)

    def _cursor(self, sequence: int) -> int:
        """Return the first cursor of a message."""
        return self._born_us + sequence * EVENTS_PER_MESSAGE

    async def _take(self, message: Msg) -> None:
        sequence = message.metadata.sequence.stream
        if sequence <= self._last:
            return
        first = self._cursor(sequence)
        content = _decoder.decode(message.data)
        if content.lost or sequence != self._last + 1:
            self._bus.skip(first - 1)
        for cursor, event in enumerate(content.events, first):
            decoded = self._codec.decode(event.data)
            self._bus.tell(cursor, (event.org_id, event.name), decoded, _hashable(event.key), remember=event.remember)
        async with self._progress:
            self._last = sequence
            self._progress.notify_all()


def _jetstream(client: Client) -> JetStreamContext:
    return client.jetstream()  # pyright: ignore[reportUnknownMemberType] - its options are untyped


def _hashable(key: Any) -> Hashable:  # noqa: ANN401 - whatever msgpack holds
    return tuple(_hashable(part) for part in cast("list[Any]", key)) if isinstance(key, list) else key


async def _note(error: Exception) -> None:
    log.warning("NATS", error=str(error) or type(error).__name__)
