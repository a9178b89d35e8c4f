"""Working on a project together. Each connection is a `CollabConnection`; here is what they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

import orjson

from core.documents import patches
from core.documents.content import Json
from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.errors import Aborted, InvalidArgument
from core.kernel.limits import Limiter
from core.live.events import EventBus
from core.maker.attachments import Attachments
from core.maker.collab_connection import CollabConnection
from core.maker.collab_peers import Peers
from core.maker.document_kinds import KINDS, Kind
from core.maker.documents import Change, ProjectDocuments
from core.maker.people import People
from core.maker.pins import PinService
from core.maker.project_pins import ProjectPinMap
from gen.busbar.maker.v1.collab_pb import CollabOp, CollaborateRequest, CollaborateResponse


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a patch: the revision of the document now, and whether the patch was made from the one before."""

    revision: int
    done: bool


class CollabService:
    """Connects the members of projects.

    Attributes:
        documents: Documents of projects.
        people: Cards of users.
        attachments: Which boards belong to a project.
        pins: Pins of single boards; `pin_map` has those of whole projects.
        peers: Who is connected.
    """

    def __init__(
        self,
        bus: EventBus,
        limiter: Limiter,
        clock: Clock,
        *,
        documents: ProjectDocuments,
        people: People,
        attachments: Attachments,
        pins: PinService,
        pin_map: ProjectPinMap,
    ) -> None:
        self.documents = documents
        self.people = people
        self.attachments = attachments
        self.pins = pins
        self.pin_map = pin_map
        self.bus = bus
        self.limiter = limiter
        self.clock = clock
        self.peers = Peers(bus)

    async def collaborate(self, requests: AsyncIterator[CollaborateRequest], call: Call) -> AsyncIterator[CollaborateResponse]:
        """Talk with the members of one project both ways."""
        connection = await CollabConnection.open(self, requests, call)
        # Closed here, so that the others hear of the end when it comes.
        async with aclosing(connection.run()) as frames:
            async for frame in frames:
                yield CollaborateResponse(frame=frame)

    async def apply(self, project_id: str, op: CollabOp, call: Call) -> Applied:
        """Apply a patch to the revision that it is made from, and save what comes out.

        Raises:
            InvalidArgument: The patch does not fit, or what comes out is no document of its kind.
            TooLarge: What comes out is too large.
            NotFound, PermissionDenied: As `ProjectDocuments.save`.
        """
        kind = KINDS[op.doc]
        current = await self.documents.read(project_id, op.doc, call.caller)
        revision = 0 if current is None else current.revision
        if revision != op.base_revision:
            return Applied(revision, done=False)
        content = kind.empty if current is None else current.content
        change = Change(await asyncio.to_thread(_patched, kind, content, op.patch), revision, op.patch)
        try:
            saved = await self.documents.save(project_id, op.doc, change, call)
        except Aborted as error:
            # Somebody saved in between.
            return Applied(int(error.metadata.get("revision", revision)), done=False)
        return Applied(saved.revision, done=True)


def _patched(kind: Kind, content: dict[str, Json], patch: str) -> dict[str, Json]:
    try:
        operations = orjson.loads(patch)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument.field("patch", "must be JSON") from error
    if not isinstance(operations, list):
        raise InvalidArgument.field("patch", "must be a list")
    document = patches.apply(kind.document(content), cast("list[Json]", operations))
    if not isinstance(document, dict):
        raise InvalidArgument.field("patch", "must leave an object")
    return kind.content(document, content.get("schemaVersion", 1))
