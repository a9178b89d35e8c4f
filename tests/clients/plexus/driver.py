"""Drives one release of the SDK. Runs in that release's environment, which has neither this project nor its libraries.

Reads one JSON object a line: {"do": NAME, ...arguments}. Answers each with {"answer": ...} or {"raised": CLASS, "text": ...}.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import os
import sys
import threading
from typing import Any

from plexus import Plexus  # pyright: ignore[reportAttributeAccessIssue, reportMissingImports]
from plexus.config import RetryConfig  # pyright: ignore[reportAttributeAccessIssue, reportMissingImports]

NOBODY = "//127.0.0.1:9"
"""Where no server listens: a client that finds nobody there has to use the other transport."""
RECONNECT_SECONDS = 0.2
"""Releases wait up to a minute before they try again; a test does not."""
PATIENCE_SECONDS = 0.2
CONNECT_SECONDS = 10.0
CAMERA = "front:0"
STILL = b"\xff\xd8a still\xff\xd9"


class Driver:
    """Carries out commands."""

    client: Any
    agent: Any

    def open(self, source_id: str, retries: int = 0) -> bool:
        """Make a client that uses HTTP."""
        known = inspect.signature(Plexus.__init__).parameters
        over_http = {"transport": "http", "ws_url": f"ws:{NOBODY}", "persistent_buffer": True}
        retry = RetryConfig(max_retries=retries, base_delay=0.05, max_delay=0.2)
        self.client = Plexus(
            source_id=source_id, retry_config=retry, **{name: value for name, value in over_http.items() if name in known}
        )
        if hasattr(self.client, "_ws_auth_waited"):
            # The first send would wait five seconds for a socket that never opens.
            self.client._ws_auth_waited = True
        return True

    def open_socket(self, source_id: str) -> bool:
        """Make a client that has only its socket, with a handler of commands; return whether it got in."""
        # The oldest release has none.
        from plexus import ws  # noqa: PLC0415  # pyright: ignore[reportAttributeAccessIssue, reportMissingImports]

        ws.BACKOFF_MAX_S = RECONNECT_SECONDS
        server = os.environ["PLEXUS_GATEWAY_URL"]
        retry = RetryConfig(max_retries=0)
        self.client = Plexus(
            source_id=source_id, retry_config=retry, ws_url=server.replace("http", "ws", 1), persistent_buffer=True
        )
        self.client.gateway_url = f"http:{NOBODY}"
        self.client.on_command("double", lambda _name, params: {"doubled": 2 * params["number"]})
        if hasattr(self.client, "command"):
            declare = self.client.command("triple", params={"number": {"type": "number"}})
            declare(lambda _run, number: {"tripled": 3 * number})
        return self.client._ensure_ws().wait_authenticated(CONNECT_SECONDS)

    def connected(self) -> bool:
        """Return whether the socket is open and the server let it in."""
        return self.client._ws.is_authenticated

    def impatient(self) -> bool:
        """Wait for a server that is away as short as can be."""
        self.client.timeout = PATIENCE_SECONDS
        return True

    def unacknowledged(self, seconds: float) -> int:
        """Return how many points the server has not said are stored, once there is none or the time is over."""
        assert self.client._ws.acks_enabled
        self.client._ws.wait_for_acks(seconds)
        return self.client._ws.unacked_points

    def event(self, metric: str, value: Any, timestamp: float) -> bool:
        """Send an event."""
        return self.client.event(metric, value, timestamp=timestamp)

    def record(self, run: str, metric: str, values: list[Any]) -> bool:
        """Send values within a run; return whether this release knows runs."""
        if not hasattr(self.client, "run"):
            return False
        with self.client.run(run):
            for value in values:
                self.client.send(metric, value)
        return True

    def open_agent(self, source_id: str) -> bool:
        """Run the agent that the oldest release starts from its command line, with one sensor that counts."""
        # Gone from later releases.
        from plexus.connector import PlexusConnector  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
        from plexus.sensors import base  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

        class Counter(base.BaseSensor):  # pyright: ignore[reportUntypedBaseClass]
            name, metrics = "Counter", ["count"]
            count = 0

            def read(self) -> list[Any]:
                self.count += 1
                return [base.SensorReading("count", self.count)]

        from plexus.cameras import base as cameras  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

        class Still(cameras.BaseCamera):  # pyright: ignore[reportUntypedBaseClass]
            name = "Still"

            def capture(self) -> Any:
                return cameras.CameraFrame(data=STILL, width=8, height=6, camera_id=self.camera_id)

        hub = base.SensorHub()
        hub.add(Counter(sample_rate=50.0))
        eyes = cameras.CameraHub().add(Still(camera_id=CAMERA))
        self.agent = PlexusConnector(source_id=source_id, sensor_hub=hub, camera_hub=eyes, persistent_buffer=True)
        threading.Thread(target=asyncio.run, args=(self.agent.connect(),), daemon=True).start()
        return True

    def show(self, timestamp: float) -> bool:
        """Send a picture."""
        # Reading the size of a picture takes a library that releases do not bring along.
        self.client._encode_frame = lambda frame, _quality: (frame, 8, 6)
        return self.client.send_video_frame(STILL, camera_id=CAMERA, timestamp=timestamp)

    def show_heat(self, timestamp: float) -> bool:
        """Send a picture with more than its binary form can say, as `send_thermal_frame` does once it has made its colours."""
        message = {
            "type": "video_frame",
            "source_id": self.client.source_id,
            "camera_id": CAMERA,
            "frame": base64.b64encode(STILL).decode(),
            "width": 8,
            "height": 6,
            "timestamp": int(timestamp * 1000),
            "video_type": "thermal",
            "sensor_width": 2,
            "sensor_height": 1,
            "temp_min": 20.5,
            "temp_max": 80.25,
            "temps": [20.5, 80.25],
        }
        return self.client._ws.send_json_video_frame(message)

    def kept(self) -> list[int]:
        """Return the counts that the agent keeps for later."""
        return [point["value"] for point in self.agent._buffer.get_all()]

    def send(self, metric: str, value: Any, timestamp: float | None = None) -> bool:
        """Send one value."""
        return self.client.send(metric, value, timestamp=timestamp)

    def send_batch(self, points: list[list[Any]], timestamp: float | None = None) -> bool:
        """Send several values of one time."""
        return self.client.send_batch([tuple(point) for point in points], timestamp=timestamp)

    def buffered(self) -> int:
        """Return how many points wait."""
        return self.client.buffer_size()

    def flush(self) -> bool:
        """Send what waits."""
        return self.client.flush_buffer()

    def close(self) -> bool:
        """Close the client."""
        self.client.close()
        return True


def main() -> None:
    """Answer until the input ends."""
    driver = Driver()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"answer": getattr(driver, command.pop("do"))(**command)}
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is the answer
            answer = {"raised": type(error).__name__, "text": str(error)}
        print(json.dumps(answer), flush=True)  # noqa: T201 - the other side of the pipe reads it


if __name__ == "__main__":
    main()
