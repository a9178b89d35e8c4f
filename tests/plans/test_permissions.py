"""What the roles of plans may do, and what they are elsewhere on the server."""

from __future__ import annotations

from uuid import UUID

import pytest

from core.kernel.call import Principal
from core.kernel.errors import PermissionDenied
from core.plans.permissions import ADMIN, MEMBER, OWNER, ROLES, Role, may, require, role_of
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Running
from tests.doors import Refused
from tests.plans.people import Plans

CONTRACT = {
    "delete_org",
    "manage_email_domain_auth",
    "manage_billing",
    "list_org_roles",
    "create_project",
    "rename_any_project",
    "delete_any_project",
    "create_plan",
    "manage_any_plan_shares",
    "rename_any_plan",
    "delete_any_plan",
    "update_any_plan",
    "archive_any_plan",
} | {f"{right}|{role}" for right in ("invite_user", "remove_user", "set_user_role") for role in ("owner", "admin", "member")}


def caller(role: Role) -> Principal:
    """Return somebody of a role."""
    return Principal("c", CredentialKind.PLANS_TOKEN, "o", "u", role=role.role, owner=role.owner)


def test_owners_may_do_everything_and_members_make_projects_and_plans() -> None:
    assert OWNER.permissions == CONTRACT
    assert MEMBER.permissions == {"create_project", "create_plan"}


def test_admins_may_do_all_but_what_concerns_the_organisation_and_its_owners() -> None:
    missing = {"delete_org", "manage_email_domain_auth", "manage_billing"}
    assert CONTRACT - ADMIN.permissions == missing | {p for p in CONTRACT if p.endswith("|owner")}


def test_ids_of_roles_stay_as_they_are() -> None:
    assert [role.id for role in ROLES] == [f"0d2c5b4e-6f0a-4b5c-9a53-6a1f1f6f7d0{number}" for number in (1, 2, 3)]
    assert all(UUID(role.id).version == 4 for role in ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_read_off_the_membership_that_it_makes(role: Role) -> None:
    assert role_of(role.role, owner=role.owner) is role


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_people_of_the_lab_are_members(role: str) -> None:
    assert role_of(role, owner=False) is MEMBER


async def test_a_permission_about_people_depends_on_their_role() -> None:
    assert await may(caller(ADMIN), "remove_user", MEMBER)
    assert not await may(caller(ADMIN), "remove_user", OWNER)
    await require(caller(OWNER), "remove_user", OWNER)
    with pytest.raises(PermissionDenied):
        await require(caller(MEMBER), "rename_any_project")


async def test_a_member_of_plans_only_looks_on_in_the_lab(busbar: Running) -> None:
    plans = Plans(busbar)
    ann = await plans.owner("ann")
    bob = await plans.member(ann, "bob", MEMBER)
    adam = await plans.member(ann, "adam", ADMIN)
    user = {"email": "zoe@corp.example", "username": "zoe", "password": "long enough 1"}
    with pytest.raises(Refused) as refused:
        await bob.call("UserService.CreateUser", **user)
    assert refused.value.code == "PERMISSION_DENIED"
    await adam.call("UserService.CreateUser", **user)
    roles = {member.username: member.role for member in (await ann.call("UserService.ListUsers")).data}
    assert roles == {"ann": "admin", "bob": "viewer", "adam": "admin", "zoe": "viewer"}


async def test_who_registers_owns_the_organisation_that_comes_with_it(busbar: Running) -> None:
    alice = await busbar.person("alice")
    client = busbar.client("grpc", alice.session)
    places = (await client.call("OrgService.ListUsers")).org_users_by_user_id
    assert places[alice.id].org_role_id == OWNER.id
