"""What the services of accounts, organisations and invites have in common."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from core.identity.accounts import Accounts
from core.identity.credentials import Credentials
from core.identity.invites import Invites
from core.identity.orgs import KnownOrg, Orgs
from core.identity.proofs import Proofs
from core.kernel.errors import InvalidArgument
from core.mail.post import Post
from core.storage.database import Database
from gen.busbar.plans.v1.orgs_pb import Org

_ADDRESS = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[a-z0-9-]+(\.[a-z0-9-]+)+")


@dataclass(frozen=True, slots=True)
class People:
    """What is known of people, and how they are written to.

    Attributes:
        local_mode: Whether the server believes everybody.
    """

    database: Database
    identity: Accounts
    orgs: Orgs
    invites: Invites
    proofs: Proofs
    mail: Post
    local_mode: bool

    @property
    def credentials(self) -> Credentials:
        """What people call with."""
        return self.identity.credentials


def address(text: str) -> str:
    """Return a mail address as it is kept, in lower case.

    Raises:
        InvalidArgument: It is none.
    """
    email = text.strip().lower()
    if not _ADDRESS.fullmatch(email):
        raise InvalidArgument.field("email", "is not a mail address")
    return email


def org_message(known: KnownOrg) -> Org:
    """Return an organisation as clients see it."""
    return Org(id=known.org.id, name=known.org.name, auto_add_domain_users=known.claims_domain)


def org_messages(known: Iterable[KnownOrg]) -> list[Org]:
    """Return organisations as clients see them."""
    return [org_message(one) for one in known]
