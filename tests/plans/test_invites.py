"""Invites to an organisation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from core.plans.permissions import ADMIN, MEMBER, OWNER
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Running
from tests.doors import Refused
from tests.plans.people import Plans, Someone, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One server for all cases."""
    async for busbar in serve(tmp_path_factory.mktemp("invites")):
        yield busbar


@pytest.fixture
def plans(running: Running) -> Plans:
    """People of plans, of domains that no other case has."""
    return Plans(running)


async def refusal(someone: Someone, name: str, **fields: object) -> str:
    """Return how a call is refused."""
    with pytest.raises(Refused) as refused:
        await someone.call(name, **fields)
    return refused.value.code


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_the_first_call_for_the_organisation_accepts_the_invite(plans: Plans, door: str) -> None:
    ann, bob = await plans.owner("ann"), await plans.sign_up("bob")
    assert await refusal(bob.at(ann.org_id), "OrgService.GetOrgSession") == "UNAUTHENTICATED"
    invite = {"email": plans.at("Bob"), "name": "Bob", "orgRoleId": MEMBER.id}
    answer = await ann.http("POST", "/invites", json=invite)
    assert (answer.status_code, answer.content) == (200, b"")
    mail = await plans.mail(plans.at("bob"))
    assert plans.at("ann") in mail.get_content()

    pending = (await ann.http("GET", "/invites/pending")).json()
    assert len(pending) == 1
    assert (pending[0]["email"], pending[0]["inviteeId"], pending[0]["acceptedAt"]) == (plans.at("bob"), None, None)
    assert (pending[0]["inviterId"], pending[0]["orgRoleId"], pending[0]["orgId"]) == (ann.id, MEMBER.id, ann.org_id)

    assert (await bob.at(ann.org_id).call("OrgService.GetOrgSession", door)).id == ann.org_id
    assert (await ann.http("GET", "/invites/pending")).json() == []
    accepted = (await ann.call("InviteService.ListAcceptedInvites", door)).invites
    assert [(one.id, one.invitee_id) for one in accepted] == [(pending[0]["id"], bob.id)]
    assert accepted[0].accepted_at is not None
    assert [one.id for one in (await ann.call("InviteService.ListAllInvites", door)).invites] == [pending[0]["id"]]


async def test_calls_at_once_accept_an_invite_once(plans: Plans) -> None:
    ann, bob = await plans.owner("ann"), await plans.sign_up("bob")
    await ann.call("InviteService.CreateInvite", email=plans.at("bob"), org_role_id=MEMBER.id)
    await asyncio.gather(*[bob.at(ann.org_id).call("OrgService.GetOrgSession") for _ in range(4)])
    assert len((await ann.call("OrgService.ListUsers")).users) == 2


async def test_an_invite_is_for_a_new_address_and_a_known_role(plans: Plans) -> None:
    ann = await plans.owner("ann")
    bob = await plans.member(ann, "bob", MEMBER)
    create = "InviteService.CreateInvite"
    assert await refusal(ann, create, email="no address", org_role_id=MEMBER.id) == "INVALID_ARGUMENT"
    assert await refusal(ann, create, email=f"bob@{plans.other}", org_role_id=MEMBER.id) == "INVALID_ARGUMENT"
    assert await refusal(ann, create, email=plans.at("eve"), org_role_id="nonsense") == "INVALID_ARGUMENT"
    await ann.call(create, email=plans.at("eve"), org_role_id=MEMBER.id)
    assert await refusal(ann, create, email=plans.at("eve"), org_role_id=ADMIN.id) == "INVALID_ARGUMENT"
    assert await refusal(bob, create, email=plans.at("zoe"), org_role_id=MEMBER.id) == "PERMISSION_DENIED"


async def test_admins_invite_admins_and_members_but_no_owners(plans: Plans) -> None:
    ann = await plans.owner("ann")
    adam = await plans.member(ann, "adam", ADMIN)
    await adam.call("InviteService.CreateInvite", email=plans.at("a"), org_role_id=ADMIN.id)
    create = {"email": plans.at("b"), "org_role_id": OWNER.id}
    assert await refusal(adam, "InviteService.CreateInvite", **create) == "PERMISSION_DENIED"
    await ann.call("InviteService.CreateInvite", **create)


async def test_an_invite_that_was_taken_back_lets_nobody_in(plans: Plans) -> None:
    ann, bob = await plans.owner("ann"), await plans.sign_up("bob")
    await ann.call("InviteService.CreateInvite", email=plans.at("bob"), org_role_id=MEMBER.id)
    (invite,) = (await ann.call("InviteService.ListPendingInvites")).invites
    eve = await plans.owner("eve", domain=plans.other)
    answer = await eve.http("DELETE", f"/invites/{invite.id}")
    assert (answer.status_code, answer.text) == (404, f"Invite not found: {invite.id}\n")
    assert (await eve.call("InviteService.ListAllInvites")).invites == []
    await ann.call("InviteService.DeleteInvite", invite_id=invite.id)
    assert await refusal(ann, "InviteService.DeleteInvite", invite_id=invite.id) == "NOT_FOUND"
    answer = await bob.at(ann.org_id).http("GET", "/orgs/session")
    assert (answer.status_code, answer.text) == (401, "not a member of org\n")


async def test_members_take_no_invites_back(plans: Plans) -> None:
    ann = await plans.owner("ann")
    bob = await plans.member(ann, "bob", MEMBER)
    await ann.call("InviteService.CreateInvite", email=plans.at("zoe"), org_role_id=MEMBER.id)
    (invite,) = (await bob.call("InviteService.ListPendingInvites")).invites
    assert await refusal(bob, "InviteService.DeleteInvite", invite_id=invite.id) == "PERMISSION_DENIED"


async def test_an_address_that_was_never_proved_accepts_nothing(plans: Plans) -> None:
    ann = await plans.owner("ann")
    eve = await plans.person("eve")
    await ann.call("InviteService.CreateInvite", email=eve.email, org_role_id=OWNER.id)
    credentials, database = plans.busbar.app.credentials, plans.busbar.app.database
    async with database.unit_of_work() as session:
        token = await credentials.issue(session, CredentialKind.PLANS_TOKEN, None, user_id=eve.id)
    raw = plans.busbar.http(token.secret, **{"X-Org-Id": ann.org_id})
    assert (await raw.get("/orgs/session")).status_code == 401
    assert [org["id"] for org in (await raw.get("/orgs")).json()] == [eve.org_id]
