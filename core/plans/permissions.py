"""Roles of the plans area, and what each may do.

They are read off the memberships that the whole server has: an owner is an administrator who owns the organisation, an admin
any other administrator, and everybody else a member. Somebody who is invited as a member is a viewer wherever else roles count,
so an invite to plans never lets anybody operate the lab.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.kernel.call import Principal
from core.kernel.errors import InvalidArgument, PermissionDenied

MEMBER_RIGHTS = frozenset({"create_project", "create_plan"})
OF_ALL_ADMINS = MEMBER_RIGHTS | {
    "list_org_roles",
    "rename_any_project",
    "delete_any_project",
    "manage_any_plan_shares",
    "rename_any_plan",
    "delete_any_plan",
    "update_any_plan",
    "archive_any_plan",
}
OF_OWNERS = frozenset({"delete_org", "manage_email_domain_auth", "manage_billing"})
ABOUT_ROLES = ("invite_user", "remove_user", "set_user_role")


def _about(*roles: str) -> frozenset[str]:
    return frozenset(f"{right}|{role}" for right in ABOUT_ROLES for role in roles)


@dataclass(frozen=True, slots=True)
class Role:
    """A role that comes with the server.

    Attributes:
        id: The same in every organisation and on every server.
        label: Name for people.
        permissions: What it allows; those about members of a role are spelled `remove_user|member`.
        role: Role of its members wherever else roles count.
        owner: Whether its members own the organisation.
    """

    id: str
    name: str
    label: str
    description: str
    permissions: frozenset[str]
    role: str
    owner: bool = False


OWNER = Role(
    "0d2c5b4e-6f0a-4b5c-9a53-6a1f1f6f7d01",
    "owner",
    "Owner",
    "Can do everything, including what concerns other owners.",
    OF_ALL_ADMINS | OF_OWNERS | _about("owner", "admin", "member"),
    "admin",
    owner=True,
)
ADMIN = Role(
    "0d2c5b4e-6f0a-4b5c-9a53-6a1f1f6f7d02",
    "admin",
    "Admin",
    "Can do everything but delete the organisation, manage its mail domain, and invite or remove owners.",
    OF_ALL_ADMINS | _about("admin", "member"),
    "admin",
)
MEMBER = Role(
    "0d2c5b4e-6f0a-4b5c-9a53-6a1f1f6f7d03",
    "member",
    "Member",
    "Can make projects and plans, and work on own plans and those that are shared.",
    MEMBER_RIGHTS,
    "viewer",
)

ROLES = (OWNER, ADMIN, MEMBER)
"""All roles, the most powerful first."""


def role_of(role: str, *, owner: bool) -> Role:
    """Return the role of a membership."""
    if role != "admin":
        return MEMBER
    return OWNER if owner else ADMIN


def role_by_id(role_id: str) -> Role:
    """Return a role. Raises InvalidArgument for an id that is none."""
    for role in ROLES:
        if role.id == role_id:
            return role
    raise InvalidArgument.field("org_role_id", "is not the id of a role")


async def may(principal: Principal, permission: str, role: Role | None = None) -> bool:
    """Tell whether the caller has a permission in the organisation of the call; `role` is whom it is about."""
    wanted = permission if role is None else f"{permission}|{role.name}"
    return wanted in role_of(principal.role, owner=principal.owner).permissions


async def require(principal: Principal, permission: str, role: Role | None = None) -> None:
    """Check that the caller has a permission. Raises PermissionDenied."""
    if not await may(principal, permission, role):
        raise PermissionDenied(f"you need the permission {permission} for this", permission=permission)
