"""People of plans on PostgreSQL, where units of work run at the same time."""

from __future__ import annotations

import asyncio

from core.plans.permissions import MEMBER
from tests.conftest import Start
from tests.databases import Postgres
from tests.doors import Refused
from tests.plans.people import Plans


async def test_of_many_at_once_one_joins_one_signs_in_and_few_guess(start: Start, postgres: Postgres) -> None:
    busbar = await start(database=await postgres.migrated())
    plans, client = Plans(busbar), busbar.client("grpc")
    ann, bob = await plans.owner("ann", claims=True), await plans.owner("bob", domain=plans.other)
    await ann.call("InviteService.CreateInvite", email=f"bob@{plans.other}", org_role_id=MEMBER.id)
    await plans.mail(f"bob@{plans.other}")
    await asyncio.gather(*[bob.at(ann.org_id).call("OrgService.GetOrgSession") for _ in range(5)])
    assert len((await ann.call("OrgService.ListUsers")).users) == 2

    pin = await plans.pin(plans.at("ann"))
    tries = [client.call("AccountService.SignIn", email=plans.at("ann"), pin=pin) for _ in range(5)]
    ended = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(one, Refused) for one in ended) == 1

    pin = await plans.pin(plans.at("ann"))
    guesses = [client.call("AccountService.CheckPin", email=plans.at("ann"), pin=f"{number:06}") for number in range(5)]
    assert all(isinstance(one, Refused) for one in await asyncio.gather(*guesses, return_exceptions=True))
    ended = await asyncio.gather(client.call("AccountService.CheckPin", email=plans.at("ann"), pin=pin), return_exceptions=True)
    assert isinstance(ended[0], Refused)

    invites = [ann.call("InviteService.CreateInvite", email="zoe@third.example", org_role_id=MEMBER.id) for _ in range(5)]
    await asyncio.gather(*invites, return_exceptions=True)
    assert len((await ann.call("InviteService.ListPendingInvites")).invites) == 1
