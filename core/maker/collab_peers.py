"""Who is connected to which project right now. Kept in memory: a connection lives no longer than the process."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager

from core.live.events import EventBus
from core.maker.events import PeerJoined, PeerLeft, PeerMoved, project_topic
from gen.busbar.maker.v1.collab_pb import CollabPeer, CollabPeerPresence
from gen.busbar.maker.v1.people_pb import UserCard

COLORS = ("#D7263D", "#1B998B", "#2E86AB", "#F46036", "#6A4C93", "#3F7D20", "#C9184A", "#0077B6", "#9C6644", "#5F0F40")
"""Dark enough to be read on a light ground, and unlike each other."""


class Peers:
    """Connections by project."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._connected: defaultdict[str, dict[str, CollabPeer]] = defaultdict(dict)

    def others(self, project_id: str, client_id: str) -> list[CollabPeer]:
        """Return the other connections to a project, in the order in which they came."""
        return [peer for peer in self._connected.get(project_id, {}).values() if peer.client_id != client_id]

    @contextmanager
    def joined(self, project_id: str, client_id: str, user: UserCard) -> Generator[None]:
        """Count a connection and tell the others when it comes and goes."""
        peer = CollabPeer(
            client_id=client_id,
            user_id=user.id,
            username=user.username,
            display_name=user.display_name,
            color=COLORS[zlib.crc32(client_id.encode()) % len(COLORS)],
        )
        self._connected[project_id][client_id] = peer
        self._tell(project_id, PeerJoined(peer))
        try:
            yield
        finally:
            del self._connected[project_id][client_id]
            if not self._connected[project_id]:
                del self._connected[project_id]
            self._tell(project_id, PeerLeft(peer))

    def moved(self, project_id: str, presence: CollabPeerPresence) -> None:
        """Tell the others where a connection's user is."""
        self._tell(project_id, PeerMoved(presence))

    def _tell(self, project_id: str, event: object) -> None:
        self._bus.publish(project_topic(project_id), event, remember=False)
