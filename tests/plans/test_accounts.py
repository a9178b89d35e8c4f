"""Signing in and out of plans."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from uuid import UUID

import pytest
import pytest_asyncio

from tests.conftest import Running
from tests.doors import Refused
from tests.plans.people import Plans, Someone, bearer, serve

MINUTES = 60
DAYS = 24 * 3600


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One server for all cases."""
    async for busbar in serve(tmp_path_factory.mktemp("accounts")):
        yield busbar


@pytest.fixture
def plans(running: Running) -> Plans:
    """People of plans, of domains that no other case has."""
    return Plans(running)


async def test_a_pin_by_mail_makes_an_account_and_signs_in(plans: Plans) -> None:
    verified = await plans.post("/accounts/email_verifications", {"email": plans.at("Ann").upper(), "userId": ""})
    assert verified.json() == {"hasAccount": False, "isLocalMode": False}
    mail = await plans.mail(plans.at("ann"))
    pin = re.findall(r"pin is (\w{6})", mail.get_content())[0]
    body = {"email": plans.at("ann"), "pin": pin, "userName": "Ann"}
    session = (await plans.post("/accounts", body)).json()
    assert str(UUID(session["token"])) == session["token"]
    assert str(UUID(session["userId"])) == session["userId"]
    assert {key: session[key] for key in ("email", "userName", "orgs", "isLocalMode")} == {
        "email": plans.at("ann"),
        "userName": "Ann",
        "orgs": [],
        "isLocalMode": False,
    }
    again = await plans.post("/accounts/email_verifications", {"email": plans.at("ann")})
    assert again.json()["hasAccount"] is True


async def test_signing_in_lists_organisations_with_those_that_invite(plans: Plans) -> None:
    ann, bob = await plans.owner("ann", "Anns"), await plans.owner("bob", "Bobs", domain=plans.other)
    role = (await ann.call("OrgService.ListOrgRoles")).roles[-1]
    await ann.call("InviteService.CreateInvite", email=f"bob@{plans.other}", org_role_id=role.id)
    await plans.mail(f"bob@{plans.other}")
    session = (await plans.sign_in(f"bob@{plans.other}")).session
    assert [(org.id, org.name) for org in session.orgs] == [(bob.org_id, "Bobs"), (ann.org_id, "Anns")]


async def test_a_pin_signs_in_once_and_not_after_five_minutes(plans: Plans) -> None:
    await plans.sign_up("ann")
    pin = await plans.pin(plans.at("ann"))
    client = plans.busbar.client("grpc")
    for _ in range(2):
        await client.call("AccountService.CheckPin", email=plans.at("ann"), pin=pin)
    await client.call("AccountService.SignIn", email=plans.at("ann"), pin=pin)
    with pytest.raises(Refused) as refused:
        await client.call("AccountService.SignIn", email=plans.at("ann"), pin=pin)
    assert refused.value.code == "UNAUTHENTICATED"
    with pytest.raises(Refused) as refused:
        await client.call("AccountService.CheckPin", email=plans.at("ann"), pin=pin)
    assert refused.value.code == "CONFLICT"
    late = await plans.pin(plans.at("ann"))
    plans.busbar.clock.forward(seconds=5 * MINUTES)
    answer = await plans.post("/accounts/email_verifications/check_pin", {"email": plans.at("ann"), "pin": late})
    assert (answer.status_code, answer.text) == (404, "Invalid or expired pin\n")
    with pytest.raises(Refused) as refused:
        await client.call("AccountService.SignIn", email=plans.at("ann"), pin=late)
    assert refused.value.code == "UNAUTHENTICATED"


async def test_wrong_tries_kill_a_pin(plans: Plans) -> None:
    pin = await plans.pin(plans.at("ann"))
    client = plans.busbar.client("grpc")
    for _ in range(5):
        with pytest.raises(Refused):
            await client.call("AccountService.CheckPin", email=plans.at("ann"), pin=pin.swapcase() + "x")
    with pytest.raises(Refused) as refused:
        await client.call("AccountService.CheckPin", email=plans.at("ann"), pin=pin)
    assert refused.value.code == "NOT_FOUND"


async def test_who_must_have_an_account_is_told_whether_there_is_one(plans: Plans) -> None:
    ann = await plans.sign_up("ann")
    verify = "/accounts/email_verifications"
    at = {"email": plans.at("ann")}
    assert (await plans.post(verify, {"email": plans.at("bob"), "requireUser": True})).status_code == 404
    assert (await plans.post(verify, {**at, "requireNoUser": True})).status_code == 409
    assert (await plans.post(verify, {**at, "userId": "nobody"})).status_code == 404
    assert (await plans.post(verify, {"email": plans.at("bob"), "userId": ann.id})).status_code == 400
    assert (await plans.post(verify, {"email": "no address"})).status_code == 400
    assert (await plans.post(verify, {**at, "userId": ann.id})).status_code == 200


async def test_an_account_is_made_once_and_signing_in_needs_one(plans: Plans) -> None:
    await plans.sign_up("ann")
    pin = await plans.pin(plans.at("ann"))
    made = await plans.post("/accounts", {"email": plans.at("ann"), "pin": pin, "userName": "Ann"})
    assert made.status_code == 409
    stranger = await plans.pin(plans.at("eve"))
    answer = await plans.post("/accounts/sign_in", {"email": plans.at("eve"), "pin": stranger})
    assert answer.status_code == 404
    made = await plans.post("/accounts", {"email": plans.at("eve"), "pin": stranger, "userName": "Eve"})
    assert made.status_code == 200


async def test_a_code_signs_another_client_in_to_its_organisation_once(plans: Plans) -> None:
    ann = await plans.owner("ann")
    await ann.call("OrgService.CreateOrg", name="Second")
    answer = await ann.http("POST", "/accounts/sign_in_codes")
    assert (answer.status_code, len(answer.text), answer.headers["cache-control"]) == (200, 6, "no-store")
    body = {"pin": answer.text, "isSignInCode": True, "email": plans.at("whoever")}
    session = (await plans.post("/accounts/sign_in", body)).json()
    assert (session["userId"], [org["id"] for org in session["orgs"]]) == (ann.id, [ann.org_id])
    again = await plans.post("/accounts/sign_in", body)
    assert (again.status_code, again.text) == (401, "Error signing in: invalid or expired code\n")


async def test_only_a_token_of_plans_makes_a_code(plans: Plans) -> None:
    alice = await plans.person("alice")
    with pytest.raises(Refused) as refused:
        await plans.busbar.client("grpc", alice.session).call("AccountService.CreateSignInCode")
    assert refused.value.code == "UNAUTHENTICATED"


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_signing_out_ends_the_token_at_once(plans: Plans, door: str) -> None:
    ann = await plans.owner("ann")
    other = await plans.sign_in(plans.at("ann"))
    await ann.call("OrgService.GetOrgSession", door)
    await ann.call("AccountService.SignOut")
    with pytest.raises(Refused) as refused:
        await ann.call("OrgService.GetOrgSession")
    assert refused.value.code == "UNAUTHENTICATED"
    await other.at(ann.org_id).call("OrgService.GetOrgSession", door)


async def test_a_key_does_not_end_by_signing_out(plans: Plans) -> None:
    alice = await plans.person("alice")
    key = await plans.busbar.client("grpc", alice.session).call(
        "AgentKeyService.CreateAgentKey", name="k", scopes=["plans:read"]
    )
    with pytest.raises(Refused) as refused:
        await plans.busbar.client("grpc", key.key).call("AccountService.SignOut")
    assert refused.value.code == "PERMISSION_DENIED"


async def test_a_token_lives_for_ninety_days(plans: Plans) -> None:
    ann = await plans.owner("ann")
    plans.busbar.clock.forward(seconds=90 * DAYS - 60)
    await ann.call("OrgService.GetOrgSession")
    plans.busbar.clock.forward(seconds=120)
    answer = await ann.http("GET", "/orgs/session")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"type": "invalid_token", "status": 401, "msg": "Invalid auth token"}


@pytest.mark.parametrize(
    "authorization",
    ["Bearer !!!", "Basic abc", "Bearer eyJvcmdJZCI6IiJ9", f"Bearer {bearer('0d2c5b4e-6f0a-4b5c-9a53-6a1f1f6f7d01', 'x')}"],
)
async def test_what_is_no_token_is_told_to_sign_in_again(plans: Plans, authorization: str) -> None:
    answer = await plans.busbar.http(None, Authorization=authorization).get("/orgs")
    assert (answer.status_code, answer.json()["type"]) == (401, "invalid_token")


async def test_without_a_credential_the_answer_is_a_text(plans: Plans) -> None:
    answer = await plans.busbar.http(None, **{"X-Client-Version": "2.2.1"}).get("/orgs")
    assert (answer.status_code, answer.text) == (401, "no auth header\n")


async def test_the_cookie_of_browsers_counts(plans: Plans) -> None:
    ann = await plans.owner("ann")
    cookie = f"authToken=Bearer {bearer(ann.session.token, ann.org_id)}"
    answer = await plans.busbar.http(None, Cookie=cookie).get("/orgs/session")
    assert answer.json()["id"] == ann.org_id


async def test_a_raw_token_goes_with_a_header_or_with_the_only_organisation(plans: Plans) -> None:
    ann = await plans.owner("ann")
    raw = {"Authorization": f"Bearer {ann.session.token}"}
    assert (await plans.busbar.http(None, **raw).get("/orgs/session")).json()["id"] == ann.org_id
    second = await ann.call("OrgService.CreateOrg", name="Second")
    answer = await plans.busbar.http(None, **raw).get("/orgs/session")
    assert (answer.status_code, answer.text) == (401, "no org id\n")
    answer = await plans.busbar.http(None, **raw, **{"X-Org-Id": second.id}).get("/orgs/session")
    assert answer.json()["id"] == second.id


async def test_the_command_line_must_name_its_organisation(plans: Plans) -> None:
    ann = await plans.owner("ann")
    answer = await ann.at("").http("GET", "/orgs/session")
    assert (answer.status_code, answer.text) == (401, "no org id\n")
    assert (await ann.at("").http("GET", "/orgs")).status_code == 200


async def test_sessions_and_keys_act_in_their_own_organisation(plans: Plans) -> None:
    alice, ann = await plans.person("alice"), await plans.owner("ann")
    issuing = plans.busbar.client("grpc", alice.session)
    key = await issuing.call("AgentKeyService.CreateAgentKey", name="k", scopes=["plans:read"])
    for secret in (alice.session, key.key):
        client = plans.busbar.client("grpc", secret)
        assert (await client.call("OrgService.GetOrgSession")).id == alice.org_id
    answer = await plans.busbar.http(alice.session, **{"X-Org-Id": ann.org_id}).get("/orgs/session")
    assert answer.json()["id"] == alice.org_id


async def test_a_token_of_plans_opens_other_surfaces_over_grpc_in_the_organisation_that_it_names(plans: Plans) -> None:
    ann = await plans.owner("ann")
    board = await ann.call("BoardService.CreateBoard", name="Bench")
    assert [one.id for one in (await ann.call("BoardService.ListBoards")).boards] == [board.id]
    eve = await plans.owner("eve", domain=plans.other)
    with pytest.raises(Refused) as refused:
        await eve.call("BoardService.GetBoard", board_id=board.id)
    assert refused.value.code == "NOT_FOUND"


async def test_secrets_are_neither_logged_nor_kept(
    plans: Plans, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    ann = await plans.owner("ann")
    pin = await plans.pin(plans.at("ann"))
    code = (await ann.call("AccountService.CreateSignInCode")).code
    secrets = [pin, code, ann.session.token]
    out, err = capfd.readouterr()
    for secret in secrets:
        assert secret not in out + err + caplog.text
    with closing(sqlite3.connect(plans.busbar.app.settings.data / "busbar.db")) as database:
        dump = "\n".join(database.iterdump())
    for secret in secrets:
        assert secret not in dump


async def test_who_signs_in_by_mail_has_no_password(plans: Plans) -> None:
    await plans.sign_up("ann")
    for password in ("", "x"):
        assert await plans.busbar.app.identity.check_password(plans.at("ann"), password) is None


async def test_a_maker_signs_in_to_plans_by_mail(plans: Plans) -> None:
    alice = await plans.person("alice")
    session = (await plans.sign_in(alice.email)).session
    assert [org.id for org in session.orgs] == [alice.org_id]
    someone = Someone(plans.busbar, session, alice.org_id)
    assert len((await someone.call("OrgService.ListOrgRoles")).roles) == 3
