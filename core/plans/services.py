"""Which class stands behind which service of the plans area."""

from __future__ import annotations

from protobuf import DescService

from core.foundations import Foundations
from core.identity.attempts import SignInAttempts
from core.identity.invites import Invites
from core.identity.orgs import Orgs
from core.identity.proofs import Proofs
from core.plans.accounts import AccountService
from core.plans.invites import InviteService
from core.plans.orgs import OrgService
from core.plans.people import People
from core.plans.version import VersionService
from gen.busbar.plans.v1 import accounts_pb, invites_pb, orgs_pb, version_pb

Bound = list[tuple[DescService, object]]


def services(found: Foundations) -> Bound:
    """Build the services and what they share."""
    return [
        *_people(found),
        (version_pb.desc().services[0], VersionService(found.settings)),
        *_people(found),
    ]


def _people(found: Foundations) -> Bound:
    """Build the services of those who work on plans."""
    people = People(
        found.database,
        found.identity,
        Orgs(found.credentials, found.clock),
        Invites(found.clock),
        Proofs(found.secret, found.clock),
        found.mail,
        found.settings.local_mode,
    )
    attempts = SignInAttempts(found.limiter)
    return [
        (accounts_pb.desc().services[0], AccountService(people, attempts, found.clock)),
        (orgs_pb.desc().services[0], OrgService(people)),
        (invites_pb.desc().services[0], InviteService(people)),
    ]
