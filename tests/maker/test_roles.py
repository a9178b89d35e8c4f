"""Who may do what in projects, with boards, in classrooms and with listings: every rpc of the area by every role.

One table says which roles an rpc is for; a test holds it complete. A role that is too small is refused, and where it may not
even know of the thing, the thing does not exist. A role that is large enough is not refused, neither with a session nor with a
key that has just the scope of the rpc; with a key of another scope it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import pytest_asyncio
from protobuf import DescMethod, message_from_json_value

from adapters.server import Server
from core.app import App
from core.kernel.settings import Payments, Settings
from gen.busbar.api.v1.options_pb import CredentialKind, ext_access
from tests.conftest import MovableClock, Person, Running
from tests.doors import Refused
from tests.maker.workshop import chunked, project_in, send_chunks
from tests.test_authorisation import World, code_of, example, methods, name_of, option

pytestmark = pytest.mark.asyncio(loop_scope="module")

Ids = dict[str, Any]

PROJECT_ROLES = ("stranger", "viewer", "editor", "owner")
CLASS_ROLES = ("stranger", "student", "teacher")
MARKET_ROLES = ("stranger", "buyer", "creator")

PROJECT: dict[str, tuple[str, ...]] = {
    "viewer": (
        "ArtifactService.GetArtifact",
        "ArtifactService.ListArtifacts",
        "BoardService.ListBoards",
        "CollabService.Collaborate",
        "CollaboratorService.ListCollaborators",
        "DesignService.GetCase",
        "DesignService.GetPcb",
        "DesignService.GetWiring",
        "DocumentHistoryService.DiffRevisions",
        "DocumentHistoryService.ListRevisions",
        "DocumentHistoryService.ReadDocument",
        "DocumentHistoryService.ReadRevision",
        "FirmwareService.GetFirmware",
        "ProjectService.CreateProject",
        "ProjectService.GetProject",
        "ProjectService.GetProjectPins",
        "ProjectService.LikeProject",
        "ProjectService.ListProjectBoards",
        "ProjectService.UnlikeProject",
        "WidgetService.ListWidgets",
        "WorkbenchService.Chat",
        "WorkbenchService.CompleteCode",
        "WorkbenchService.StreamChat",
    ),
    "editor": (
        "ArtifactService.DeleteArtifact",
        "ArtifactService.UploadArtifact",
        "BoardService.CreateBoard",
        "DesignService.SaveCase",
        "DesignService.SavePcb",
        "DesignService.SaveWiring",
        "DocumentHistoryService.RestoreRevision",
        "DocumentHistoryService.SaveDocument",
        "FirmwareService.SaveFirmware",
        "ProjectService.AttachBoard",
        "ProjectService.DetachBoard",
        "ProjectService.UpdateProject",
        "WidgetService.ReplaceWidgets",
    ),
    "owner": (
        "CollaboratorService.AddCollaborator",
        "CollaboratorService.RemoveCollaborator",
        "CollaboratorService.UpdateCollaborator",
        "ListingService.CreateListing",
        "ProjectService.DeleteProject",
        "ProjectService.PublishProject",
        "ProjectService.UnpublishProject",
    ),
}
"""Rpcs about a project, by the least role that may call them."""

READABLE = {
    "DesignService.GetCase",
    "DesignService.GetPcb",
    "DesignService.GetWiring",
    "DocumentHistoryService.ReadDocument",
    "ProjectService.CreateProject",
    "ProjectService.GetProject",
    "ProjectService.LikeProject",
    "ProjectService.UnlikeProject",
    "WidgetService.ListWidgets",
    "WorkbenchService.Chat",
    "WorkbenchService.CompleteCode",
    "WorkbenchService.StreamChat",
}
"""Those of them that anyone signed in may call for a public or unlisted project; earlier revisions are for members."""

BOARD: dict[str, tuple[str, ...]] = {
    "viewer": (
        "BoardService.GetBoard",
        "HomeAssistantService.ReadHomePin",
        "HomeDiscoveryService.GetHomeDiscovery",
        "OtaService.GetOtaJob",
        "OtaService.ListOtaJobs",
        "PinService.ConnectPins",
        "PinService.ListPins",
        "PinService.ReadPin",
        "PinService.WatchPins",
    ),
    "editor": ("HomeAssistantService.WriteHomePin", "PinService.WritePin"),
    "owner": (
        "BoardService.DeleteBoard",
        "BoardService.RotateBoardToken",
        "BoardService.UpdateBoard",
        "HomeDiscoveryService.SetHomeDiscovery",
        "OtaService.CancelOtaJob",
        "OtaService.PushOta",
    ),
}
"""Rpcs about a board of the project's owner that is attached to it, by the least role that may call them."""

CLASSROOM: dict[str, tuple[str, ...]] = {
    "AssignmentService.CreateAssignment": ("teacher",),
    "AssignmentService.GetAssignment": ("student", "teacher"),
    "AssignmentService.ListAssignments": ("student", "teacher"),
    "AssignmentService.UpdateAssignment": ("teacher",),
    "CertificateService.IssueCertificate": ("teacher",),
    "CertificateService.RevokeCertificate": ("teacher",),
    "ClassroomService.GetClassroom": ("student", "teacher"),
    "ClassroomService.RemoveClassroomMember": ("teacher",),
    "ClassroomService.RotateJoinCode": ("teacher",),
    "ClassroomService.UpdateClassroom": ("teacher",),
    "SubmissionService.CreateSubmission": ("student",),
    "SubmissionService.GradeSubmission": ("teacher",),
    "SubmissionService.ListSubmissions": ("teacher",),
    "SubmissionService.ReturnSubmission": ("teacher",),
}
"""Rpcs about a classroom, and for whom they are."""

MARKET: dict[str, tuple[str, ...]] = {
    "ListingService.ArchiveListing": ("creator",),
    "ListingService.GetListing": ("stranger", "buyer", "creator"),
    "ListingService.PublishListing": ("creator",),
    "ListingService.UpdateListing": ("creator",),
    "PurchaseService.ConfirmPurchase": ("creator",),
    "PurchaseService.PurchaseListing": ("stranger", "buyer"),
    "PurchaseService.RefundPurchase": ("creator",),
    "ReviewService.CreateReview": ("buyer",),
    "ReviewService.DeleteReview": ("buyer",),
    "ReviewService.UpdateReview": ("buyer",),
}
"""Rpcs about a published listing, and for whom they are."""

OWN, OPEN, MAKES = "shows or changes only the caller's own", "public", "makes something of the caller's own"
EXEMPT: dict[str, str] = {
    "AgentCallService.ListAgentCalls": OWN,
    "AgentKeyService.CreateAgentKey": MAKES,
    "AgentKeyService.ListAgentKeys": OWN,
    "AgentKeyService.RevokeAgentKey": OWN,
    "AuthService.ChangePassword": OWN,
    "AuthService.GetSession": OPEN,
    "AuthService.Login": OPEN,
    "AuthService.Logout": OPEN,
    "AuthService.Register": OPEN,
    "CertificateService.DrawCertificate": OPEN,
    "CertificateService.GetCertificate": OPEN,
    "CertificateService.ListMyCertificates": OWN,
    "ClassroomService.CreateClassroom": MAKES,
    "ClassroomService.JoinClassroom": "for whoever has the code",
    "ClassroomService.ListClassrooms": OWN,
    "HomeAssistantService.ListHomeBoards": OWN,
    "ListingService.BrowseListings": "for everyone signed in",
    "ListingService.ListListings": OWN,
    "ListingService.ListUserListings": OPEN,
    "MeService.GetReferral": OWN,
    "MeService.ListNotifications": OWN,
    "MeService.MarkNotificationsRead": OWN,
    "MeService.UpdateProfile": OWN,
    "MeService.WatchNotifications": OWN,
    "OtaService.DownloadOtaArtifact": "for the board of the job alone, by its token",
    "ProjectService.ListProjects": OWN,
    "PublicService.GetPublicUser": OPEN,
    "PublicService.ListProjectFeed": OPEN,
    "PurchaseService.ListPurchases": OWN,
    "PurchaseService.ListSales": OWN,
    "ReviewService.ListReviews": OPEN,
}
"""Rpcs that know no roles, and why."""

NAMED: dict[str, dict[str, str]] = {
    "BoardService.CreateBoard": {"project_id": "project_id"},
    "BoardService.ListBoards": {"project_id": "project_id"},
    "ListingService.CreateListing": {"project_id": "project_id"},
    "OtaService.PushOta": {"project_id": "project_id"},
    "ProjectService.CreateProject": {"template_project_id": "project_id"},
    "ReviewService.CreateReview": {"listing_id": "unreviewed_id"},
}
"""Fields that name what the rpc is about though their form does not ask for them."""

EXAMPLES: dict[str, Ids] = {
    "HomeAssistantService.WriteHomePin": {"value": "1"},
    "HomeDiscoveryService.SetHomeDiscovery": {"enabled": False},
    "ListingService.CreateListing": {"kind": "project"},
}
"""Fields for which a scene has nothing that would do."""

DONE = {"OK", "CONFLICT", "UNAVAILABLE"}
"""How a call may end whose caller may make it: the server has neither a model nor a broker, and much is there already."""


def least(table: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return for whom rpcs are, from the least role of each."""
    return {name: PROJECT_ROLES[PROJECT_ROLES.index(role) :] for role, names in table.items() for name in names}


@dataclass
class Cast:
    """One server, and everybody who plays a role on it."""

    busbar: Running
    people: dict[str, Person]
    keys: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    async def key(self, role: str, scope: str) -> str:
        """Return a key of somebody's with one scope."""
        if (role, scope) not in self.keys:
            self.keys[role, scope] = await self.busbar.key(self.people[role], CredentialKind.AGENT_KEY, scope)
        return self.keys[role, scope]

    async def call(self, role: str, name: str, /, **fields: Any) -> Any:
        """Call an rpc as somebody."""
        return await self.busbar.again("grpc", self.people[role].session).call(name, **fields)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cast(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cast]:
    """One server for all cases; each case has things of its own."""
    most = {"boards": 100_000, "projects": 100_000, "artifact_bytes": 10**12}
    settings: dict[str, Any] = {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "rate_limits": "off", "quotas": most}
    clock = MovableClock()
    app = await App.create(
        Settings(data=tmp_path_factory.mktemp("roles"), payments=Payments(manual="at_once"), **settings), clock=clock
    )
    busbar = Running(app, await Server.start(app), clock)
    roles = ("owner", "editor", "viewer", "eve", "member", "teacher", "student", "mate", "creator", "buyer")
    people = {role: await busbar.person(role) for role in roles}
    yield Cast(busbar, {**people, "stranger": people["eve"]})
    await busbar.close()
    await busbar.server.stop(1)
    await app.close()


async def project_scene(cast: Cast, visibility: str = "private") -> Ids:
    """Make a project of everything: members, a board, documents, an artifact and a job."""
    owner, members = cast.people["owner"], {role: cast.people[role] for role in ("editor", "viewer")}
    project_id = await project_in(cast.busbar.app, owner.org_id, owner.id, visibility=visibility, **members)
    ids: Ids = {"project_id": project_id, "user_id": cast.people["member"].id, "kind": "wiring", "revision": 1, "base": 1}
    await cast.call("owner", "CollaboratorService.AddCollaborator", project_id=project_id, user_id=ids["user_id"])
    board = await cast.call("owner", "BoardService.CreateBoard", name="Bench", project_id=project_id)
    await cast.call("owner", "PinService.WritePin", board_id=board.id, pin_index=1, value=1)
    for data in ({}, {"wires": [1]}):
        await cast.call("owner", "DesignService.SaveWiring", project_id=project_id, data=data)
    await cast.call("owner", "FirmwareService.SaveFirmware", project_id=project_id, source="void setup() {}")
    artifact = await send_chunks(cast.busbar, owner.session, chunked(project_id, b"firmware"))
    job = await cast.call("owner", "OtaService.PushOta", board_id=board.id, artifact_id=artifact.id)
    return {**ids, "board_id": board.id, "artifact_id": artifact.id, "job_id": job.id}


async def class_scene(cast: Cast, _: str = "") -> Ids:
    """Make a classroom in which something was handed in and a certificate issued."""
    room = await cast.call("teacher", "ClassroomService.CreateClassroom", name="Electronics")
    for student in ("student", "mate"):
        await cast.call(student, "ClassroomService.JoinClassroom", join_code=room.join_code)
    task = await cast.call("teacher", "AssignmentService.CreateAssignment", classroom_id=room.id, title="Blink")
    work = await cast.call("student", "SubmissionService.CreateSubmission", assignment_id=task.id, content="x")
    names = {"classroom_id": room.id, "user_id": cast.people["mate"].id}
    certificate = await cast.call("teacher", "CertificateService.IssueCertificate", **names)
    return {**names, "assignment_id": task.id, "submission_id": work.id, "certificate_id": certificate.id}


async def market_scene(cast: Cast, _: str = "") -> Ids:
    """Make two published listings that somebody has bought, one of them reviewed."""
    texts = {"title": "Lamp", "kind": "project", "summary": "s", "description": "d"}
    ids: Ids = {}
    for name, price in (("listing_id", 500), ("unreviewed_id", 0)):
        draft = await cast.call("creator", "ListingService.CreateListing", price_cents=price, **texts)
        await cast.call("creator", "ListingService.PublishListing", listing_id=draft.id)
        bought = await cast.call("buyer", "PurchaseService.PurchaseListing", listing_id=draft.id)
        ids = {"purchase_id": bought.id, **ids, name: draft.id}
    review = await cast.call("buyer", "ReviewService.CreateReview", listing_id=ids["listing_id"], rating=5)
    return {**ids, "review_id": review.id}


@dataclass(frozen=True)
class Part:
    """Rpcs about one kind of thing.

    Attributes:
        roles: Everybody, the one who may do most last.
        rpcs: For whom each rpc is.
        scene: Makes the thing.
    """

    roles: tuple[str, ...]
    rpcs: dict[str, tuple[str, ...]]
    scene: Callable[..., Awaitable[Ids]]


PARTS = [
    Part(PROJECT_ROLES, least(PROJECT) | least(BOARD), project_scene),
    Part(CLASS_ROLES, CLASSROOM, class_scene),
    Part(MARKET_ROLES, MARKET, market_scene),
]
BY_NAME = {name_of(method): method for method in methods() if method.parent.type_name.startswith("busbar.maker.")}
CASES = [pytest.param(part, name, id=name) for part in PARTS for name in part.rpcs]


def empty_world(cast: Cast) -> World:
    """Return a world without things: a scene has its own."""
    return World(cast.busbar, cast.people["owner"], cast.people["eve"], "", "", "", {}, {}, {})


async def fields_for(cast: Cast, name: str, ids: Ids, role: str) -> Ids:
    """Return a request of an rpc about the thing of a scene."""
    world = empty_world(cast)
    fields = example(world, BY_NAME[name]) | {field: ids[key] for field, key in NAMED.get(name, {}).items()}
    fields |= {field: ids[field] for field in fields if field in ids and field not in NAMED.get(name, {})}
    if name == "ProjectService.AttachBoard":
        # Only one's own board can be attached.
        fields["board_id"] = (await cast.busbar.board(cast.people[role])).id
    if name == "CertificateService.IssueCertificate":
        fields["user_id"] = cast.people["student"].id
    if name == "WorkbenchService.StreamChat":
        fields["chat"] = {**fields["chat"], "project_id": ids["project_id"]}
    return fields | EXAMPLES.get(name, {})


async def outcome(cast: Cast, name: str, credential: str, fields: Ids) -> str:
    """Call an rpc of any shape over gRPC and return its code."""
    method = BY_NAME[name]
    if method.method_kind == "client_streaming":
        try:
            await send_chunks(cast.busbar, credential, chunked(fields["project_id"], b"x"))
        except Refused as refused:
            return refused.code
        return "OK"
    if method.method_kind == "bidi_streaming":
        return await opened(cast, method, credential, fields)
    world = empty_world(cast)
    return await code_of(world, method, "stream" if method.method_kind == "server_streaming" else "grpc", credential, fields)


async def opened(cast: Cast, method: DescMethod, credential: str, fields: Ids) -> str:
    """Open a two-way stream and return the code with which it is refused, if it is."""
    client = cast.busbar.again("grpc", credential)
    rpc = client.rpc(name_of(method))
    call = client.channel.stream_stream(
        f"/{rpc.name}", request_serializer=rpc.request.to_binary, response_deserializer=rpc.response.from_binary
    )(metadata=client.metadata, timeout=20)
    try:
        await call.write(message_from_json_value(rpc.request, {"open": fields}))
        await call.read()
    except grpc.aio.AioRpcError as error:
        return error.code().name
    except grpc.aio.UsageError:
        return (await call.code()).name
    finally:
        with suppress(Exception):
            call.cancel()
    return "OK"


def opening(name: str, ids: Ids) -> Ids:
    """Return the first frame of a two-way stream about the thing of a scene."""
    return {"project_id": ids["project_id"]} if name == "CollabService.Collaborate" else {"board_id": ids["board_id"]}


async def tried(cast: Cast, name: str, ids: Ids, role: str, credential: str) -> str:
    """Call an rpc about the thing of a scene in a role."""
    two_way = BY_NAME[name].method_kind == "bidi_streaming"
    fields = opening(name, ids) if two_way else await fields_for(cast, name, ids, role)
    return await outcome(cast, name, credential, fields)


async def test_the_table_has_every_rpc_once_and_a_reason_for_each_that_knows_no_roles() -> None:
    named = [name for part in PARTS for name in part.rpcs]
    assert len(named) == len(set(named))
    assert set(named).isdisjoint(EXEMPT)
    assert set(named) | set(EXEMPT) == set(BY_NAME)
    assert set(PROJECT["viewer"]) >= READABLE
    assert all(EXEMPT.values())


@pytest.mark.parametrize(("part", "name"), CASES)
async def test_a_role_that_is_too_small_is_refused(cast: Cast, part: Part, name: str) -> None:
    scope = option(BY_NAME[name], ext_access).scope
    small = [role for role in part.roles if role not in part.rpcs[name]]
    ids = await part.scene(cast) if small else {}
    for role in small:
        for credential in (cast.people[role].session, *([await cast.key(role, scope)] if scope else [])):
            code = await tried(cast, name, ids, role, credential)
            hidden = {"NOT_FOUND"} if role == "stranger" and part.scene is not market_scene else {"PERMISSION_DENIED"}
            if part.scene is market_scene and name.startswith(("ReviewService", "PurchaseService")):
                # Reviews and purchases of others are not to be found by everybody.
                hidden |= {"NOT_FOUND"}
            if name == "CertificateService.RevokeCertificate":
                # A certificate is public, so everybody may know of it.
                hidden = {"PERMISSION_DENIED"}
            assert code in hidden, role


@pytest.mark.parametrize(("part", "name"), CASES)
async def test_a_role_that_is_large_enough_is_not_refused(cast: Cast, part: Part, name: str) -> None:
    for role in part.rpcs[name]:
        ids = await part.scene(cast)
        assert await tried(cast, name, ids, role, cast.people[role].session) in DONE, role


@pytest.mark.parametrize(("part", "name"), [case for case in CASES if option(BY_NAME[str(case.values[1])], ext_access).scope])
async def test_the_key_of_the_largest_role_needs_the_scope_and_no_more(cast: Cast, part: Part, name: str) -> None:
    role, ids = part.rpcs[name][-1], await part.scene(cast)
    assert await tried(cast, name, ids, role, await cast.key(role, "nothing:else")) == "PERMISSION_DENIED"
    scope = option(BY_NAME[name], ext_access).scope
    assert await tried(cast, name, ids, role, await cast.key(role, scope)) in DONE


@pytest.mark.parametrize("visibility", ["unlisted", "public"])
@pytest.mark.parametrize("name", PARTS[0].rpcs)
async def test_strangers_read_what_is_public_of_a_project_and_no_more(cast: Cast, name: str, visibility: str) -> None:
    code = await tried(cast, name, await project_scene(cast, visibility), "stranger", cast.people["eve"].session)
    if name in READABLE:
        assert code in DONE
    elif name in least(BOARD) or name == "ListingService.CreateListing":
        # The boards of a project stay hidden, and only its owner can sell it.
        assert code == "NOT_FOUND"
    else:
        assert code == "PERMISSION_DENIED"
