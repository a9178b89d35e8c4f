"""Organisations of plans, and who is in them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from core.plans.permissions import ADMIN, MEMBER, OWNER
from core.storage.database import Database
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Running
from tests.doors import Refused
from tests.plans.people import Plans, Someone, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One server for all cases."""
    async for busbar in serve(tmp_path_factory.mktemp("orgs")):
        yield busbar


@pytest.fixture
def plans(running: Running) -> Plans:
    """People of plans, of domains that no other case has."""
    return Plans(running)


async def refusal(someone: Someone, name: str, door: str = "grpc", /, **fields: object) -> str:
    """Return how a call is refused."""
    with pytest.raises(Refused) as refused:
        await someone.call(name, door, **fields)
    return refused.value.code


async def test_who_makes_an_organisation_owns_it(plans: Plans) -> None:
    ann = await plans.sign_up("ann")
    assert (await ann.http("GET", "/orgs")).json() == []
    made = (await ann.http("POST", "/orgs", json={"name": "Anns", "autoAddDomainUsers": False})).json()
    assert list(made) == ["id"]
    org = {"id": made["id"], "name": "Anns", "isTrial": False, "autoAddDomainUsers": False}
    assert (await ann.http("GET", "/orgs")).json() == [org]
    ann = ann.at(made["id"])
    assert (await ann.http("GET", "/orgs/session")).json() == org
    users = (await ann.http("GET", "/users")).json()
    assert users == {
        "users": [
            {"id": ann.id, "name": "Ann", "email": plans.at("ann"), "isTrial": False, "numNonDraftPlans": 0},
        ],
        "orgUsersByUserId": {ann.id: {"orgId": ann.org_id, "userId": ann.id, "orgRoleId": OWNER.id}},
    }


async def test_the_list_of_users_shows_what_they_have_set(plans: Plans) -> None:
    ann = await plans.owner("ann")
    config = {"promptedClaudeMax": True, "useClaudeSubscription": False}
    assert (await ann.http("PUT", "/org_user_config", json=config)).status_code == 200
    assert (await ann.http("PUT", "/default_plan_config", json={"config": {"autoMode": "full"}})).status_code == 200
    users = (await ann.http("GET", "/users")).json()
    assert users["users"][0]["defaultPlanConfig"]["autoMode"] == "full"
    assert users["orgUsersByUserId"][ann.id]["config"]["promptedClaudeMax"] is True


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_nobody_enters_an_organisation_of_others(plans: Plans, door: str) -> None:
    ann, eve = await plans.owner("ann"), await plans.owner("eve", domain=plans.other)
    intruder = eve.at(ann.org_id)
    for name in ("OrgService.GetOrgSession", "OrgService.ListUsers", "OrgService.ListOrgRoles"):
        assert await refusal(intruder, name, door) == "UNAUTHENTICATED"
    assert await refusal(eve, "OrgService.RemoveOrgUser", door, user_id=ann.id) == "NOT_FOUND"
    assert await refusal(eve.at("nonsense"), "OrgService.GetOrgSession", door) == "UNAUTHENTICATED"


async def test_a_claimed_domain_takes_in_present_and_later_users(plans: Plans) -> None:
    early = await plans.sign_up("early")
    unproved = await plans.busbar.app.identity.register(plans.at("unproved"), "long enough 1")
    await plans.sign_up("stranger", plans.other)
    ann = await plans.owner("ann", claims=True)
    assert (await ann.call("OrgService.GetOrgSession")).auto_add_domain_users
    later = await plans.sign_up("later")
    assert [org.id for org in later.session.orgs] == [ann.org_id]
    members = [user.id for user in (await ann.call("OrgService.ListUsers")).users]
    assert sorted(members) == sorted([ann.id, early.id, later.id])
    assert unproved.user.id not in members
    await early.at(ann.org_id).call("OrgService.GetOrgSession")
    await plans.sign_in(plans.at("unproved"))
    assert len((await ann.call("OrgService.ListUsers")).users) == 4


async def test_a_domain_is_claimed_once_and_a_public_one_never(plans: Plans) -> None:
    await plans.owner("ann", claims=True)
    bob = await plans.sign_up("bob")
    claim = {"name": "Bobs", "auto_add_domain_users": True}
    assert await refusal(bob, "OrgService.CreateOrg", **claim) == "CONFLICT"
    public = await plans.sign_up(plans.corp.partition(".")[0], "gmail.com")
    assert await refusal(public, "OrgService.CreateOrg", **claim) == "INVALID_ARGUMENT"
    assert (await public.call("OrgService.ListOrgs")).orgs == []
    alice = await plans.person("alice")
    with pytest.raises(Refused) as refused:
        await plans.busbar.client("grpc", alice.session).call("OrgService.CreateOrg", **claim)
    assert refused.value.code == "CONFLICT"


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_who_is_removed_is_out_at_once_and_stays_out(plans: Plans, door: str) -> None:
    ann = await plans.owner("ann", claims=True)
    bob = (await plans.sign_up("bob")).at(ann.org_id)
    key = await plans.busbar.app.identity.issue(CredentialKind.AGENT_KEY, ann.org_id, user_id=bob.id)
    agent = plans.busbar.client("grpc", key.secret)
    await agent.call("OrgService.GetOrgSession")
    own = bob.at((await bob.call("OrgService.CreateOrg", name="Bobs")).id)
    await bob.call("OrgService.GetOrgSession", door)

    await ann.call("OrgService.RemoveOrgUser", door, user_id=bob.id)
    assert await refusal(bob, "OrgService.GetOrgSession", door) == "UNAUTHENTICATED"
    with pytest.raises(Refused):
        await agent.call("OrgService.GetOrgSession")
    await own.call("OrgService.GetOrgSession", door)
    again = await plans.sign_in(plans.at("bob"))
    assert [org.id for org in again.session.orgs] == [own.org_id]
    assert await refusal(again.at(ann.org_id), "OrgService.GetOrgSession") == "UNAUTHENTICATED"


async def test_a_code_of_somebody_who_was_removed_meanwhile_signs_nobody_in(plans: Plans) -> None:
    ann = await plans.owner("ann")
    bob = await plans.member(ann, "bob", MEMBER)
    code = (await bob.call("AccountService.CreateSignInCode")).code
    await ann.call("OrgService.RemoveOrgUser", user_id=bob.id)
    answer = await plans.post("/accounts/sign_in", {"pin": code, "isSignInCode": True})
    assert answer.status_code == 401


async def test_removing_asks_for_the_permission_for_the_role(plans: Plans) -> None:
    ann = await plans.owner("ann")
    second = await plans.member(ann, "second", OWNER)
    adam, bob = await plans.member(ann, "adam", ADMIN), await plans.member(ann, "bob", MEMBER)
    remove = "OrgService.RemoveOrgUser"
    assert await refusal(bob, remove, user_id=adam.id) == "PERMISSION_DENIED"
    assert await refusal(adam, remove, user_id=ann.id) == "PERMISSION_DENIED"
    await adam.call(remove, user_id=bob.id)
    await second.call(remove, user_id=ann.id)
    assert await refusal(second, remove, user_id=second.id) == "PERMISSION_DENIED"


async def test_what_an_organisation_made_is_not_removed_from_here(plans: Plans) -> None:
    alice = await plans.person("alice")
    client = plans.busbar.client("grpc", alice.session)
    await client.call("UserService.CreateUser", email=plans.at("zoe"), username="zoe12", password="long enough 1")
    users = (await client.call("OrgService.ListUsers")).users
    zoe = next(user for user in users if user.email == plans.at("zoe"))
    with pytest.raises(Refused) as refused:
        await client.call("OrgService.RemoveOrgUser", user_id=zoe.id)
    assert refused.value.code == "CONFLICT"


async def test_the_lab_neither_changes_nor_deletes_the_account_of_a_guest(plans: Plans) -> None:
    alice = await plans.person("alice")
    client = plans.busbar.client("grpc", alice.session)
    await client.call("InviteService.CreateInvite", email=plans.at("bob"), org_role_id=MEMBER.id)
    await plans.mail(plans.at("bob"))
    bob = await plans.owner("bob", "Bobs")
    await bob.at(alice.org_id).call("OrgService.GetOrgSession")
    for change in ({"password": "long enough 2"}, {"email": plans.at("eve")}, {"username": "evesbob"}):
        with pytest.raises(Refused) as refused:
            await client.call("UserService.UpdateUser", public_id=bob.id, **change)
        assert refused.value.code == "CONFLICT"
    await client.call("UserService.DeleteUser", public_id=bob.id)
    assert await refusal(bob.at(alice.org_id), "OrgService.GetOrgSession") == "UNAUTHENTICATED"
    assert (await bob.call("OrgService.GetOrgSession")).name == "Bobs"


async def test_an_organisation_keeps_an_owner_when_the_lab_demotes_the_last(plans: Plans) -> None:
    ann = await plans.owner("ann")
    adam = await plans.member(ann, "adam", ADMIN)
    await adam.call("UserService.UpdateUser", public_id=ann.id, role="viewer")
    places = (await adam.call("OrgService.ListUsers")).org_users_by_user_id
    assert (places[ann.id].org_role_id, places[adam.id].org_role_id) == (MEMBER.id, OWNER.id)
    assert await refusal(ann, "OrgService.ListOrgRoles") == "PERMISSION_DENIED"


async def test_a_known_caller_costs_no_look_up(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = await plans.owner("ann")
    await ann.call("OrgService.ListOrgRoles")

    def refuse(_database: Database) -> None:
        raise AssertionError("storage was asked who calls")

    monkeypatch.setattr(Database, "read", refuse)
    monkeypatch.setattr(Database, "unit_of_work", refuse)
    assert len((await ann.call("OrgService.ListOrgRoles")).roles) == 3
