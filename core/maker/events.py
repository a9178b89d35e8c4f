"""What happens to boards besides changes of their pins, and where it is told."""

from __future__ import annotations

from dataclasses import dataclass

from core.live.events import Topic
from core.signals.topics import device_topic
from gen.busbar.maker.v1.collab_pb import CollabPeer, CollabPeerPresence
from gen.busbar.maker.v1.ota_jobs_pb import OtaNews
from gen.busbar.maker.v1.people_pb import UserCard


@dataclass(frozen=True, slots=True)
class BoardStatusChanged:
    """A board came or went."""

    online: bool
    at_us: int


@dataclass(frozen=True, slots=True)
class BoardDeleted:
    """A board is gone for good."""


@dataclass(frozen=True, slots=True)
class OtaChanged:
    """The firmware job of a board began, went on or ended.

    Attributes:
        news: The job as it is now.
        for_board: Whether the board has to be told; it knows what it told itself.
        begins: Whether the job is new, and is to be offered to the board.
    """

    news: OtaNews
    for_board: bool
    begins: bool = False


def board_topic(org_id: str, board_id: str) -> Topic:
    """Return the topic of everything about one board; changes of its channels come there too."""
    return device_topic(org_id, board_id)


@dataclass(frozen=True, slots=True)
class BoardSharingChanged:
    """Who may see a board, or what they may do with it, has changed: whoever watches it is looked at again."""


@dataclass(frozen=True, slots=True)
class ProjectUpdated:
    """Fields of a project have changed.

    Attributes:
        by: User who changed them.
        client_id: Live connection that caused it, if one did.
    """

    by: str | None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class BoardAttached:
    """A board was attached to a project."""

    board_id: str
    by: str | None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class BoardDetached:
    """A board was detached from a project, or is gone for good."""

    board_id: str
    by: str | None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentSaved:
    """A document of a project has a new revision.

    Attributes:
        by: The user who saved it; None when no user did.
        patch: What a live connection changed, as the JSON text of a JSON Patch; None when the document was saved as a whole.
        client_id: That connection.
    """

    kind: str
    revision: int
    by: UserCard | None
    patch: str | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class ProjectDeleted:
    """A project is gone for good."""


@dataclass(frozen=True, slots=True)
class CollaboratorRemoved:
    """A user is no longer a collaborator; their connections end."""

    user_id: str


@dataclass(frozen=True, slots=True)
class CollaboratorChanged:
    """A user became a collaborator or has another role now."""

    user_id: str
    role: str


@dataclass(frozen=True, slots=True)
class NotificationsChanged:
    """A user was notified, or has read notifications.

    Attributes:
        notification_id: The new notification; None when only the number of unread ones changed.
    """

    notification_id: str | None = None


@dataclass(frozen=True, slots=True)
class PeerJoined:
    """A connection to a project has opened."""

    peer: CollabPeer


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """A connection to a project has ended."""

    peer: CollabPeer


@dataclass(frozen=True, slots=True)
class PeerMoved:
    """A connection tells where its user is; kept nowhere."""

    presence: CollabPeerPresence


def project_topic(project_id: str) -> Topic:
    """Return the topic of everything about one project. Members of several organisations share it, so it is in none of them."""
    return "", f"project/{project_id}"


def user_topic(user_id: str) -> Topic:
    """Return the topic of what concerns one user alone, whichever organisation they act in."""
    return "", f"user/{user_id}"
