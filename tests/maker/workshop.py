"""What tests of firmware need: projects with members and artifacts, sockets of boards, and uploads over both doors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
import websockets
from sqlalchemy import and_, or_
from sqlmodel import col, select
from websockets.asyncio.client import ClientConnection

from core.app import App
from core.kernel.ids import new_id
from core.maker.tables import CollaboratorRow, ProjectRow
from core.outbox.tables import LEASED, PENDING, OutboxRow
from gen.busbar.maker.v1.artifacts_pb import Artifact, UploadArtifactRequest
from gen.google.api.httpbody_pb import HttpBody
from tests.conftest import Person, Running
from tests.doors import CONFLICTS, Refused

OCTETS = {"Content-Type": "application/octet-stream"}


async def project(busbar: Running, owner: Person, *, visibility: str = "private", **members: Person) -> str:
    """Make a project with an `editor` and a `viewer`, if wanted, and return its id."""
    return await project_in(busbar.app, owner.org_id, owner.id, visibility=visibility, **members)


async def project_in(app: App, org_id: str, owner_id: str, *, visibility: str = "private", **members: Person) -> str:
    """Do the same in an app that need not be served."""
    now = app.clock.now_us()
    row = ProjectRow(
        id=new_id("prj_"), org_id=org_id, owner_id=owner_id, name="Greenhouse", slug=new_id(), board_type="esp8266",
        visibility=visibility, created_us=now, updated_us=now,
    )  # fmt: skip
    async with app.database.unit_of_work() as session:
        session.add(row)
        await session.flush()
        for role, person in members.items():
            session.add(
                CollaboratorRow(
                    id=new_id("col_"), project_id=row.id, user_id=person.id, role=role, invited_us=now, joined_us=now
                )
            )
    return row.id


def path_of(project_id: str) -> str:
    """Return where the artifacts of a project are."""
    return f"/api/projects/{project_id}/firmware/artifacts"


async def post(busbar: Running, person: Person, project_id: str, data: Any, **query: str) -> httpx.Response:
    """Upload over REST."""
    return await busbar.http(person.session, **OCTETS).post(path_of(project_id), content=data, params=query)


async def upload(busbar: Running, person: Person, project_id: str, data: bytes = b"firmware", **query: str) -> dict[str, Any]:
    """Upload over REST, and return the artifact."""
    answer = await post(busbar, person, project_id, data, **query)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def send_chunks(busbar: Running, credential: str, requests: Sequence[UploadArtifactRequest]) -> Artifact:
    """Upload over gRPC."""
    client = busbar.client("grpc", credential)
    method = client.channel.stream_unary(
        "/busbar.maker.v1.ArtifactService/UploadArtifact",
        request_serializer=UploadArtifactRequest.to_binary,
        response_deserializer=Artifact.from_binary,
    )
    try:
        return await method(iter(requests), metadata=client.metadata, timeout=20)
    except grpc.aio.AioRpcError as error:
        code = error.code().name
        raise Refused("CONFLICT" if code in CONFLICTS else code, error.details() or "") from None


def chunked(project_id: str, *parts: bytes, **fields: str) -> list[UploadArtifactRequest]:
    """Return the messages of an upload, of which only the first names the project."""
    first, *others = [HttpBody(data=part) for part in parts]
    return [
        UploadArtifactRequest(project_id=project_id, body=first, **fields),
        *(UploadArtifactRequest(body=other) for other in others),
    ]


@asynccontextmanager
async def socket_of(busbar: Running, board_id: str, token: str) -> AsyncGenerator[ClientConnection]:
    """Connect to a board's socket and pass over the snapshot."""
    url = f"{busbar.ws_url}/ws/boards/{board_id}/pins"
    async with websockets.connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
        assert (await frame(socket))["type"] == "snapshot"
        yield socket


async def carried_out(busbar: Running) -> None:
    """Wait until every side effect that is due was carried out; one whose time has not come is left to wait."""
    async with asyncio.timeout(20):
        while True:
            busbar.app.outbox.notify()
            async with busbar.app.database.read() as session:
                due = and_(col(OutboxRow.state) == PENDING, col(OutboxRow.next_attempt_us) <= busbar.clock.now_us())
                rows = select(OutboxRow.id).where(or_(due, col(OutboxRow.state) == LEASED))
                if (await session.exec(rows)).first() is None:
                    return
            await asyncio.sleep(0.01)


async def frame(socket: ClientConnection, kind: str | None = None) -> dict[str, Any]:
    """Return the next frame, of one type if that is given."""
    async with asyncio.timeout(10):
        while True:
            found = json.loads(await socket.recv())
            if kind is None or found["type"] == kind:
                return found


async def say(socket: ClientConnection, **members: Any) -> None:
    """Send a frame."""
    await socket.send(json.dumps(members))
