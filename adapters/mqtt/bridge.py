"""The MQTT door: carries announced boards to a broker, and what homes set back from it.

Everything it publishes is retained, so that a home which starts later finds it. What it finds on the broker and no longer
stands for, such as a board that was taken back while the server was down, it clears.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import orjson
import structlog

from core.homes.announcements import Announced, Homes, Json, PinSet, component_id
from core.kernel.errors import DomainError
from core.kernel.settings import Mqtt, Settings
from core.system.health import busbar_version

if TYPE_CHECKING:
    from aiomqtt import Client, Message

QOS = 1
ONLINE, OFFLINE = "online", "offline"
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before a further try to reach the broker; doubled each time."""
TIMEOUT_SECONDS = 10.0
DOCUMENTS = "https://busbar.dev"

log = structlog.get_logger("busbar.mqtt")


class MqttBridge:
    """Keeps a broker in step with the announced boards, for as long as the server runs."""

    def __init__(self, home: Homes, settings: Settings) -> None:
        self._home = home
        self._mqtt = settings.mqtt
        self._origin: Json = {"name": "Busbar", "sw": busbar_version(), "url": settings.public_url or DOCUMENTS}
        self._refresh_seconds = settings.live.offline_after_seconds
        self._sent: dict[str, bytes] = {}
        self._described: dict[str, Json] = {}
        self._stated = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to reach the broker, if one is set."""
        if self._mqtt.url:
            self._task = asyncio.create_task(self._run(), name="mqtt")

    async def stop(self) -> None:
        """Tell homes that the server is going, and leave the broker."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        import aiomqtt  # noqa: PLC0415 - only a server with a broker needs it

        wait = FIRST_WAIT
        while True:
            try:
                async with aiomqtt.Client(**_options(self._mqtt, self._home.topics.bridge)) as client:
                    log.info("broker reached", url=self._mqtt.url)
                    wait = FIRST_WAIT
                    await self._serve(client)
            except aiomqtt.MqttError as error:
                log.warning("broker not reached", url=self._mqtt.url, error=str(error), retry_seconds=wait)
            finally:
                self._home.connected = False
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    async def _serve(self, client: Client) -> None:
        self._sent, self._described, self._stated = {}, {}, asyncio.Event()
        topics = self._home.topics
        for topic in (topics.command_filter, f"{self._mqtt.prefix}/status", f"{self._mqtt.prefix}/device/+/config"):
            await client.subscribe(topic, qos=QOS)
        self._home.connected = True
        work = (self._carry_out(client), self._carry_in(client), self._look_again_often())
        jobs = [asyncio.create_task(job) for job in work]
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                job.result()
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            with contextlib.suppress(Exception):
                # A stop tells homes itself; when the connection is gone, the broker does by the last will.
                await client.publish(topics.bridge, OFFLINE, qos=QOS, retain=True, timeout=1)

    async def _carry_out(self, client: Client) -> None:
        """Publish every change."""
        topics = self._home.topics
        await self._tell(client, topics.bridge, ONLINE)
        async with contextlib.aclosing(self._home.watch()) as changes:
            async for change in changes:
                if isinstance(change, PinSet):
                    if component_id(change.pin) in self._described.get(change.board_id, {}).get("cmps", {}):
                        await self._tell(client, topics.state(change.board_id, change.pin), change.text)
                    else:
                        self._home.refresh()
                else:
                    await self._replace(client, change)
                    self._stated.set()

    async def _look_again_often(self) -> None:
        """Notice boards that fell silent: nothing tells when one has not been heard from for long enough."""
        while True:
            await asyncio.sleep(self._refresh_seconds)
            self._home.refresh()

    async def _replace(self, client: Client, boards: list[Announced]) -> None:
        """Bring the broker from what was announced to what is."""
        gone = self._described.keys() - {announced.id for announced in boards}
        for board_id in gone:
            await self._clear(client, board_id)
        for announced in boards:
            board_id = announced.id
            description = {**announced.description, "o": self._origin}
            earlier = self._described.get(board_id)
            self._described[board_id] = description
            if earlier is not None:
                await self._remove_components(client, board_id, earlier, description)
            await self._tell(client, self._config_topic(board_id), orjson.dumps(description))
            await self._tell(client, self._home.topics.status(board_id), ONLINE if announced.online else OFFLINE)
            for pin, text in announced.states.items():
                await self._tell(client, self._home.topics.state(board_id, pin), text)

    async def _clear(self, client: Client, board_id: str) -> None:
        description = self._described.pop(board_id)
        for component in description["cmps"].values():
            if topic := component.get("stat_t"):
                await self._tell(client, str(topic), b"")
        await self._tell(client, self._home.topics.status(board_id), b"")
        await self._tell(client, self._config_topic(board_id), b"")

    async def _remove_components(self, client: Client, board_id: str, earlier: Json, description: Json) -> None:
        """Say of components that are no longer there only what they were: Home Assistant removes them then."""
        lost = {
            name: {"p": component["p"]}
            for name, component in earlier.get("cmps", {}).items()
            if name not in description["cmps"] and len(component) > 1
        }
        if lost:
            shrunk = {**description, "cmps": {**description["cmps"], **lost}}
            await self._tell(client, self._config_topic(board_id), orjson.dumps(shrunk))

    async def _tell(self, client: Client, topic: str, payload: str | bytes) -> None:
        content = payload.encode() if isinstance(payload, str) else payload
        if self._sent.get(topic) != content:
            await client.publish(topic, content, qos=QOS, retain=True)
            self._sent[topic] = content

    async def _carry_in(self, client: Client) -> None:
        """Carry out what homes ask for."""
        handlers: list[tuple[re.Pattern[str], Callable[[Client, re.Match[str], bytes], Awaitable[None]]]] = [
            (self._home.topics.command_pattern, self._command),
            (re.compile(re.escape(f"{self._mqtt.prefix}/status")), self._birth),
            (re.compile(re.escape(f"{self._mqtt.prefix}/device/plynx_") + r"([^/]+)/config"), self._found),
        ]
        async for message in client.messages:
            for pattern, handle in handlers:
                if match := pattern.fullmatch(message.topic.value):
                    await handle(client, match, _payload(message))

    async def _command(self, _client: Client, match: re.Match[str], payload: bytes) -> None:
        try:
            await self._home.set_pin(match[1], int(match[2]), payload)
        except DomainError as error:
            # There is nobody to answer; the state that the home goes on to show is the one that holds.
            log.warning("command refused", board=match[1], pin=match[2], error=error.message)

    async def _birth(self, client: Client, _match: re.Match[str], payload: bytes) -> None:
        """Publish everything again for a home that has just started."""
        if payload == ONLINE.encode():
            sent, self._sent = self._sent, {}
            for topic, content in sent.items():
                await self._tell(client, topic, content)

    async def _found(self, client: Client, match: re.Match[str], payload: bytes) -> None:
        """Compare what stands on the broker with what is announced now."""
        board_id, topic = match[1], match.string
        await self._stated.wait()
        if not payload or self._sent.get(topic) == payload:
            return
        kept = _object(payload)
        description = self._described.get(board_id)
        if description is None:
            self._described[board_id] = kept
            await self._clear(client, board_id)
            return
        await self._remove_components(client, board_id, kept, description)
        self._sent.pop(topic, None)
        await self._tell(client, topic, orjson.dumps(description))

    def _config_topic(self, board_id: str) -> str:
        return f"{self._mqtt.prefix}/device/plynx_{board_id}/config"


def _options(mqtt: Mqtt, will_topic: str) -> dict[str, Any]:
    """Return how to reach a broker, with the last will of this server."""
    import aiomqtt  # noqa: PLC0415 - only a server with a broker needs it

    address = urlsplit(mqtt.url)
    secure = address.scheme == "mqtts"
    return {
        "hostname": address.hostname or "localhost",
        "port": address.port or (8883 if secure else 1883),
        "username": mqtt.username or None,
        "password": mqtt.password.get_secret_value() or None,
        "tls_context": ssl.create_default_context() if secure else None,
        "will": aiomqtt.Will(will_topic, OFFLINE, qos=QOS, retain=True),
        "timeout": TIMEOUT_SECONDS,
    }


def _payload(message: Message) -> bytes:
    return bytes(message.payload)


def _object(payload: bytes) -> Json:
    """Return the description that stands on a broker; an empty one for what somebody else has written there."""
    try:
        value: object = orjson.loads(payload)
    except orjson.JSONDecodeError:
        value = None
    components = cast("Json", value).get("cmps") if isinstance(value, dict) else None
    if not isinstance(components, dict):
        return {"cmps": {}}
    named = cast("Json", components).items()
    return {"cmps": {name: component for name, component in named if isinstance(component, dict) and "p" in component}}
