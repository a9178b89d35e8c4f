"""Who may call what, for every rpc at every door it has; made from the descriptors, so a new rpc is covered by being there.

Each rpc is called without a credential, with nonsense, with a credential that lacks its scope, with one of another kind, by
somebody of another organisation, by people of each role, and with a value that breaks a rule of one of its fields.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from protobuf import (
    DescField,
    DescFieldValueList,
    DescFieldValueMessage,
    DescFieldValueScalar,
    DescMessage,
    DescMethod,
    ScalarType,
)

from adapters.server import Server
from core.app import App
from core.identity.members import Members
from core.kernel.rpc import PATH_VARIABLE, ROLES, Rpc, verb_and_path
from core.kernel.settings import Settings
from core.plans.builtin_packs import DEFAULT_PACK
from core.plans.permissions import MEMBER
from gen.buf.validate.validate_pb import ext_field
from gen.busbar.api.v1.options_pb import Access, CredentialKind, Surface, ext_access, ext_surface, ext_tool
from gen.google.api.annotations_pb import ext_http
from gen.google.api.field_behavior_pb import FieldBehavior, ext_field_behavior
from tests.conftest import PASSWORD, MovableClock, Person, Running
from tests.doors import Refused, name_of, services
from tests.plans.things import pack, plans_things

pytestmark = pytest.mark.asyncio(loop_scope="module")

KINDS_WITH_SCOPES = {
    Surface.MAKER: CredentialKind.AGENT_KEY,
    Surface.TELEMETRY: CredentialKind.TELEMETRY_KEY,
    Surface.LAB: CredentialKind.LAB_TOKEN,
    Surface.PLANS: CredentialKind.AGENT_KEY,
}
"""Kinds of credentials that may hold less than every scope, by whose rpcs they call."""

CLIENTS_COME_WITH = {
    (Surface.TELEMETRY, "grpc"): CredentialKind.TELEMETRY_KEY,
    (Surface.TELEMETRY, "stream"): CredentialKind.TELEMETRY_KEY,
    (Surface.TELEMETRY, "rest"): CredentialKind.TELEMETRY_KEY,
    (Surface.PLANS, "rest"): CredentialKind.PLANS_TOKEN,
}
"""Kinds of credentials that are no session, by surface and door."""

NUMBERS = {ScalarType.INT32, ScalarType.DOUBLE}

NEEDED = {
    "CertificateService.DrawCertificate": "NOT_FOUND",
    "CertificateService.GetCertificate": "NOT_FOUND",
    "AuthService.Login": "UNAUTHENTICATED",
    "lab.AuthService.Login": "UNAUTHENTICATED",
    "SsoService.AuthorizeSso": "NOT_FOUND",
    "SsoService.CompleteSso": "INVALID_ARGUMENT",
    "SsoService.ExchangeSsoCode": "INVALID_ARGUMENT",
    "SignInService.CliSignIn": "UNAUTHENTICATED",
    "SignInService.PollDeviceGrant": "INVALID_ARGUMENT",
    "PairingService.CreatePairing": "UNAUTHENTICATED",
    "PairingService.CompletePairing": "NOT_FOUND",
    "PairingService.VerifyDevice": "UNAUTHENTICATED",
    "ReviewService.ListReviews": "NOT_FOUND",
    "AccountService.CheckPin": "NOT_FOUND",
    "AccountService.CreateAccount": "UNAUTHENTICATED",
    "AccountService.SignIn": "NOT_FOUND",
    "PurchaseService.ConfirmPurchase": "UNAUTHENTICATED",
    "PurchaseService.RefundPurchase": "UNAUTHENTICATED",
}
"""What public rpcs answer that want a password, a code, a token or an id, where the example has a wrong one."""

FURTHER: dict[str, dict[str, Any]] = {
    "telemetry.RunService.CreateRun": {"name": "x"},
    "plans.RunService.ListRuns": {"project_id": ["x"]},
    "FileMapService.CreateFileMap": {"map_inputs": {"a.py": "x = 1"}},
    "ModelService.CreateModelSet": {"pack": pack("theirs")},
    "ModelService.UpdateModelSet": {"pack": pack("theirs")},
    "SettingsService.UpdateSettings": {"model_pack_name": DEFAULT_PACK},
    "SettingsService.UpdateDefaultSettings": {"model_pack_name": DEFAULT_PACK},
    "HomeDiscoveryService.SetHomeDiscovery": {"enabled": True},
    "lab.OtaService.CreateUpdate": {"version": "1.0.0"},
    "OtaService.PushOta": {"project_id": "x"},
    "WorkbenchService.Chat": {"message": "x", "project_id": "x"},
    "WorkbenchService.CompleteCode": {"project_id": "x"},
    "WorkbenchService.StreamChat": {"chat": {"message": "x", "project_id": "x"}},
    "SubmissionService.CreateSubmission": {"content": "x"},
    "SubmissionService.GradeSubmission": {"points": 1},
    "CertificateService.DrawCertificate": {"picture": "image.svg"},
    "CollaboratorService.AddCollaborator": {"username": "eve"},
    "MeService.MarkNotificationsRead": {"all": True},
    "FirmwareService.SaveFirmware": {"source": "x"},
    "DocumentHistoryService.SaveDocument": {"kind": "wiring", "content": {}},
    "DocumentHistoryService.ReadDocument": {"kind": "wiring"},
    "DocumentHistoryService.ListRevisions": {"kind": "wiring"},
    "DocumentHistoryService.ReadRevision": {"kind": "wiring"},
    "DocumentHistoryService.DiffRevisions": {"kind": "wiring"},
    "DocumentHistoryService.RestoreRevision": {"kind": "wiring"},
    "ListingService.CreateListing": {"kind": "project"},
    "UserService.CreateUser": {"username": "somebody"},
    "RuleService.TryRule": {"rule_public_id": "x", "since": "2026-01-31T12:00:00Z"},
    "AccountService.SignIn": {"email": "nobody@example.com"},
    "InviteService.CreateInvite": {"org_role_id": MEMBER.id},
    "WebhookService.CreateWebhook": {"url": "http://a.example/", "events": ["sensor.reading"]},
}
"""Fields that a request needs though its proto cannot say so, or not in a way that a made-up value would fit."""

NAMED = {
    "source_id", "session_id", "run_id", "project_id", "public_id",
    "plan_id", "context_id", "set_id", "model_id", "provider_id", "invite_id", "user_id",
}  # fmt: skip
"""Variables of paths that name a thing which exists already."""

FOR_THE_OWNER = {"lab.OtaService.CreateUpdate"}
"""What only the organisation that owns the installation may do."""

NOT_FOUND = (" not found", " not found.", " does not exist in org")
"""How the sentences end that agents read of what does not exist."""


@dataclass
class World:
    """One server with two people who know nothing of each other.

    Attributes:
        public_ids: Things of Alice's lab, by the service that keeps them.
        of_plans: Things of Alice's in the plans area, by the fields that name them.
        by_role: People of Alice's organisation.
    """

    busbar: Running
    alice: Person
    eve: Person
    board_id: str
    key_id: str
    project_id: str
    public_ids: dict[str, str]
    of_plans: dict[str, Any]
    by_role: dict[str, Person]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One server for all cases: they refuse, so they leave no trace for each other."""
    clock = MovableClock()
    data = Path(tmp_path_factory.mktemp("matrix"))
    settings = Settings(data=data, http="127.0.0.1:0", grpc="127.0.0.1:0", rate_limits="off")
    app = await App.create(settings, clock=clock)
    server = await Server.start(app)
    busbar = Running(app, server, clock)
    alice, eve = await busbar.person("alice"), await busbar.person("eve")
    board = await busbar.board(alice)
    key = await busbar.client("grpc", alice.session).call("AgentKeyService.CreateAgentKey", name="k")
    project = await busbar.client("grpc", alice.session).call("ProjectService.CreateProject", name="p")
    source = await app.signals.ensure_device(alice.org_id, "rig-1")
    await app.signals.recordings.create(alice.org_id, "run-1", kind="run", device_id=source.id)
    people = {role: await member(busbar, alice, role) for role in ("viewer", "operator", "admin")}
    for role in people:
        await busbar.client("grpc", alice.session).call(
            "CollaboratorService.AddCollaborator", project_id=project.id, username=role, role="editor"
        )
    lab, plans = await lab_things(busbar, alice), await plans_things(busbar, alice)
    yield World(busbar, alice, eve, board.id, key.id, project.id, lab, plans, people)
    await busbar.close()
    await server.stop(1)
    await app.close()


async def member(busbar: Running, alice: Person, role: str) -> Person:
    """Make somebody of Alice's organisation."""
    app = busbar.app
    members = Members(app.database, app.credentials, app.clock)
    user = await members.add(alice.org_id, f"{role}@example.com", role, PASSWORD, role)
    person = Person(user.id, user.email, alice.org_id, "")
    person.session = await busbar.key(person, CredentialKind.SESSION)
    return person


async def lab_things(busbar: Running, alice: Person) -> dict[str, str]:
    """Make a thing of each kind that the lab keeps, and return their ids by service."""
    client = busbar.client("grpc", alice.session)
    token = await client.call("TokenService.CreateToken", name="t")
    await client.call("LoggingService.CreateLogEntry", content="c")
    entries = await client.call("LoggingService.ListLogEntries")
    return {"UserService": alice.id, "TokenService": token.public_id, "LoggingService": entries.data[0].public_id}


def methods() -> Iterator[DescMethod]:
    """Yield every rpc of every service."""
    for service in services():
        yield from service.methods


def option(method: DescMethod, extension: Any) -> Any:
    """Return an option of an rpc, or None."""
    options = method.proto.options
    return options[extension] if options and extension in options else None


def surface_of(method: DescMethod) -> Surface:
    """Return the surface to which an rpc belongs."""
    options = method.parent.proto.options
    assert options is not None
    return options[ext_surface]


def doors_of(method: DescMethod) -> list[str]:
    """Return the doors at which an rpc can be called once."""
    doors = ["grpc"] if method.method_kind == "unary" else ["stream"] if method.method_kind == "server_streaming" else []
    if option(method, ext_http) is not None and method.method_kind == "unary":
        doors.append("rest")
    return doors + (["mcp"] if option(method, ext_tool) is not None else [])


def by_role() -> list[Any]:
    """Return the cases of rpc, door and role for the rpcs that not every role may call."""
    return [
        pytest.param(method, door, role, id=f"{name_of(method)}-{door}-{role}")
        for method in methods()
        if option(method, ext_access).level in ROLES
        for door in doors_of(method)
        for role in ("viewer", "operator", "admin")
    ]


def every(*, public: bool = False, scope: bool = False, kinds: bool = False) -> list[Any]:
    """Return the cases of rpc and door that have what is asked for."""
    cases: list[Any] = []
    for method in methods():
        access = option(method, ext_access)
        if (access.level == Access.Level.PUBLIC) is not public or (scope and not access.scope) or (kinds and not access.kinds):
            continue
        cases += [pytest.param(method, door, id=f"{name_of(method)}-{door}") for door in doors_of(method)]
    return cases


def example(world: World, method: DescMethod) -> dict[str, Any]:
    """Return a request that is right as far as its form goes."""
    known: dict[str, Any] = {
        "board_id": world.board_id, "key_id": world.key_id, "project_id": world.project_id,
        "username": "alice", "role": "viewer", "source_id": "rig-1", "session_id": "run-1", "run_id": "run-1",
        "callback": "http://127.0.0.1:5000/callback", "value": 1, "points": [], "email": "new@example.com",
        "password": PASSWORD, "current_password": PASSWORD, "new_password": f"{PASSWORD}!",
    }  # fmt: skip
    known["public_id"] = world.public_ids.get(method.parent.name, "x")
    if surface_of(method) == Surface.PLANS:
        known |= world.of_plans
    if method.parent.name == "ProjectDocumentService":
        known["project_id"] = world.project_id
    return filled(method.input, known) | FURTHER.get(name_of(method), {})


def filled(message: DescMessage, known: dict[str, Any]) -> dict[str, Any]:
    """Return what a message requires, with known values where there are some."""
    required = (field for field in message.fields if FieldBehavior.REQUIRED in behaviors_of(field))
    return {field.name: known[field.name] if field.name in known else right_value(field, known) for field in required}


def right_value(field: DescField, known: dict[str, Any]) -> Any:
    """Return a value that a field may have: what its message needs, a number, one of a closed set, a list of one, any text."""
    if (message := own_message(field)) is not None:
        return filled(message, known)
    if isinstance(field.value, DescFieldValueList):
        return [] if isinstance(field.value.element, DescMessage) else ["x"]
    if isinstance(field.value, DescFieldValueScalar) and field.value.scalar in NUMBERS:
        return 1
    rules = field.proto.options[ext_field] if field.proto.options and ext_field in field.proto.options else None
    rule = None if rules is None else rules.type
    return rule.value.in_[0] if rule is not None and rule.field == "string" and rule.value.in_ else "x"


def own_message(field: DescField) -> DescMessage | None:
    """Return the message that a field holds one of, if it is one of this project's."""
    message = field.value.message if isinstance(field.value, DescFieldValueMessage) else None
    return message if message is not None and message.type_name.startswith("busbar.") else None


def behaviors_of(field: DescField) -> list[FieldBehavior]:
    """Return what the proto says of a field's behaviour."""
    return field.proto.options[ext_field_behavior] if field.proto.options else []


def names_a_thing(method: DescMethod) -> bool:
    """Whether a request says which thing that exists already it is about; ids in bodies may be those of new things."""
    if {field.name for field in method.input.fields if FieldBehavior.REQUIRED in behaviors_of(field)} & {"board_id", "key_id"}:
        return True
    rule = option(method, ext_http)
    return rule is not None and any(name.split(".")[-1] in NAMED for name in PATH_VARIABLE.findall(verb_and_path(rule)[1]))


def broken(message: DescMessage) -> tuple[str, Any] | None:
    """Return a field of a request and a value that breaks its rule, or one of a message in it; None when it has no rule."""
    for field in message.fields:
        inner = own_message(field)
        if inner is not None and FieldBehavior.REQUIRED in behaviors_of(field) and (fault := broken(inner)) is not None:
            return field.name, dict([fault])
        rules = field.proto.options[ext_field] if field.proto.options and ext_field in field.proto.options else None
        rule = None if rules is None else rules.type
        if rule is None or rule.field not in ("string", "int32", "double"):
            continue
        if rule.field == "string":
            return field.name, "n" * max(5000, getattr(rule.value, "max_len", 0) + 1)
        if rule.field == "double" and rule.value.finite:
            return field.name, "NaN"
        return field.name, -1_000_000
    return None


async def code_of(world: World, method: DescMethod, door: str, credential: str | None, fields: dict[str, Any]) -> str:
    """Call an rpc and return its code; what a tool says stands for its code."""
    client = world.busbar.again("grpc" if door == "stream" else door, credential)
    try:
        if door == "stream":
            async for _ in client.stream(name_of(method), **fields):
                break
        else:
            await client.call(name_of(method), **fields)
    except Refused as refused:
        return refused.message if refused.code == "TOOL_ERROR" else refused.code
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def owner(world: World, method: DescMethod, person: Person, door: str = "grpc") -> str:
    """Return a credential of somebody's with which an rpc may be called at a door."""
    rpc: Rpc = world.busbar.again("grpc", None).rpc(name_of(method))
    if door == "mcp":
        return await world.busbar.key(person, CredentialKind.AGENT_KEY)
    kinds = rpc.access.kinds or (rpc.rest.credentials if door == "rest" else [])
    kind = kinds[0] if kinds else CLIENTS_COME_WITH.get((rpc.surface, door))
    if kind in (None, CredentialKind.SESSION):
        return person.session
    return await world.busbar.key(person, kind)


@pytest.mark.parametrize(("method", "door"), every())
async def test_without_a_credential_it_is_refused(world: World, method: DescMethod, door: str) -> None:
    assert await code_of(world, method, door, None, example(world, method)) == "UNAUTHENTICATED"


@pytest.mark.parametrize(("method", "door"), every())
async def test_with_nonsense_it_is_refused(world: World, method: DescMethod, door: str) -> None:
    for nonsense in ("x", "plnx_" + "a" * 43, "plx_" + "a" * 32, "ü" if door != "rest" else "%%%", "a" * 3000):
        if nonsense.isascii():
            assert await code_of(world, method, door, nonsense, example(world, method)) == "UNAUTHENTICATED"


@pytest.mark.parametrize(("method", "door"), every(public=True))
async def test_what_is_public_needs_no_credential_and_minds_no_bad_one(world: World, method: DescMethod, door: str) -> None:
    for credential in (None, "nonsense"):
        code = await code_of(world, method, door, credential, example(world, method))
        # The example is a fresh account: the first call may make it, sign-in fails for want of the password's owner.
        assert code in {"OK", "CONFLICT"} or code == NEEDED.get(name_of(method))


@pytest.mark.parametrize(("method", "door"), every(scope=True))
async def test_without_its_scope_it_is_refused(world: World, method: DescMethod, door: str) -> None:
    access = option(method, ext_access)
    key = await world.busbar.key(world.alice, KINDS_WITH_SCOPES[surface_of(method)], "nothing:else")
    code = await code_of(world, method, door, key, example(world, method))
    expected = f"insufficient scope: {access.scope} required" if door == "mcp" else "PERMISSION_DENIED"
    # Over REST most rpcs of makers and plans take no keys at all.
    assert code == expected or (door == "rest" and code == "UNAUTHENTICATED")


@pytest.mark.parametrize(("method", "door"), every(kinds=True))
async def test_a_credential_of_another_kind_is_refused(world: World, method: DescMethod, door: str) -> None:
    kinds = option(method, ext_access).kinds
    for kind in (CredentialKind.SESSION, CredentialKind.AGENT_KEY, CredentialKind.TELEMETRY_KEY, CredentialKind.BOARD_TOKEN):
        if kind not in kinds:
            key = await world.busbar.key(world.alice, kind)
            assert await code_of(world, method, door, key, example(world, method)) == "UNAUTHENTICATED"


@pytest.mark.parametrize(("method", "door", "role"), by_role())
async def test_a_role_lets_in_as_far_as_it_goes(world: World, method: DescMethod, door: str, role: str) -> None:
    credential = await owner(world, method, world.by_role[role], door)
    fault = broken(method.input)
    # A broken rule is found after the role and changes nothing.
    fields = {**example(world, method), **({} if fault is None else {fault[0]: fault[1]})}
    code = await code_of(world, method, door, credential, fields)
    allowed = ROLES[option(method, ext_access).level]
    refusals = {"PERMISSION_DENIED", f"{allowed[0]} role required"}
    assert (code in refusals) is (role not in allowed)
    assert code != "UNAUTHENTICATED"


@pytest.mark.parametrize(("method", "door"), every())
async def test_things_of_others_do_not_exist(world: World, method: DescMethod, door: str) -> None:
    if not names_a_thing(method):
        stranger = await world.busbar.person()
        code = await code_of(world, method, door, await owner(world, method, stranger, door), example(world, method))
        # What names nothing of others shows or changes only the caller's own.
        # A picture comes as a form, which no example makes.
        assert (
            code in {"OK", "CONFLICT", "NOT_FOUND"}
            or code.endswith(NOT_FOUND)
            or name_of(method) == "SignInService.RelayFrame"
            or (code == "PERMISSION_DENIED" and name_of(method) in FOR_THE_OWNER)
        )
        return
    code = await code_of(world, method, door, await owner(world, method, world.eve, door), example(world, method))
    assert code == "NOT_FOUND" or code.endswith(NOT_FOUND)


def naming_a_plan() -> list[Any]:
    """Return the cases of rpc and door that name a plan."""
    return [case for case in every() if "plan_id" in plan_path(case.values[0])]


def plan_path(method: DescMethod) -> set[str]:
    """Return the variables in the path of an rpc, without the messages that hold them."""
    rule = option(method, ext_http)
    return set() if rule is None else {name.split(".")[-1] for name in PATH_VARIABLE.findall(verb_and_path(rule)[1])}


@pytest.mark.parametrize(("method", "door"), naming_a_plan())
async def test_a_plan_that_is_not_shared_is_closed_to_other_members(world: World, method: DescMethod, door: str) -> None:
    for role in ("viewer", "admin"):
        credential = await owner(world, method, world.by_role[role], door)
        code = await code_of(world, method, door, credential, example(world, method))
        # The contract answers 401 here, which elsewhere says that a credential does not count.
        assert code == ("no access to plan" if door == "mcp" else "UNAUTHENTICATED")


@pytest.mark.parametrize(("method", "door"), every() + every(public=True))
async def test_a_value_that_breaks_a_rule_is_refused_by_name(world: World, method: DescMethod, door: str) -> None:
    fault = broken(method.input)
    tool = option(method, ext_tool)
    if fault is None or (door == "mcp" and fault[0] in tool.hidden):
        return
    fields = {**example(world, method), fault[0]: fault[1]}
    code = await code_of(world, method, door, await owner(world, method, world.alice, door), fields)
    if door == "mcp":
        assert (tool.arguments.get(fault[0]) or fault[0]).split("_")[0] in code
    else:
        assert code == "INVALID_ARGUMENT"
