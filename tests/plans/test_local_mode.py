"""Local mode: the server believes everybody, so it serves nobody but its own machine."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from busbar import cli
from core.kernel.settings import Settings
from tests.conftest import Running, Start
from tests.doors import Refused
from tests.plans.people import bearer

ADMIN = {"email": "local-admin@plandex.ai", "pin": ""}


@pytest.fixture
async def local(start: Start) -> Running:
    """A server in local mode."""
    return await start(local_mode=True)


async def test_the_command_line_signs_in_for_the_first_time(local: Running) -> None:
    async with httpx.AsyncClient(base_url=local.url) as client:
        verified = await client.post("/accounts/email_verifications", json={"email": ADMIN["email"], "userId": ""})
        assert verified.json() == {"hasAccount": False, "isLocalMode": True}
        made = (await client.post("/accounts", json={**ADMIN, "userName": "Local Admin"})).json()
        assert (made["orgs"], made["isLocalMode"], made["userName"]) == ([], True, "Local Admin")
        headers = {"Authorization": f"Bearer {bearer(made['token'])}"}
        org = await client.post("/orgs", json={"name": "Local Org", "autoAddDomainUsers": True}, headers=headers)
        headers = {"Authorization": f"Bearer {bearer(made['token'], org.json()['id'])}"}
        assert (await client.get("/orgs/session", headers=headers)).json() == {
            "id": org.json()["id"],
            "name": "Local Org",
            "isTrial": False,
            "autoAddDomainUsers": False,
        }
        assert [role["label"] for role in (await client.get("/orgs/roles", headers=headers)).json()] == [
            "Owner",
            "Admin",
            "Member",
        ]
        again = (await client.post("/accounts/sign_in", json={**ADMIN, "isSignInCode": False})).json()
        assert (again["userId"], [one["id"] for one in again["orgs"]]) == (made["userId"], [org.json()["id"]])
        assert again["token"] != made["token"]
    assert not (local.app.settings.data / "mail").exists()


async def test_what_tells_people_apart_is_closed_before_anybody_is_asked_who_they_are(local: Running) -> None:
    closed = ("GET /users", "DELETE /orgs/users/u1", "POST /invites", "DELETE /invites/i1")
    closed += ("GET /invites/pending", "GET /invites/accepted", "GET /invites/all")
    async with httpx.AsyncClient(base_url=local.url) as client:
        for one in closed:
            for headers in ({}, {"Authorization": "Bearer nonsense"}):
                answer = await client.request(*one.split(), headers=headers)
                assert (answer.status_code, answer.headers["content-type"], one) == (403, "application/json", one)
                assert answer.json()["type"] == "other"


async def test_over_grpc_it_is_as_open_and_as_closed(local: Running) -> None:
    session = await local.client("grpc").call("AccountService.CreateAccount", **ADMIN, user_name="Local Admin")
    assert (session.is_local_mode, session.email) == (True, ADMIN["email"])
    with pytest.raises(Refused) as refused:
        await local.client("grpc").call("InviteService.ListAllInvites")
    assert refused.value.code == "PERMISSION_DENIED"


async def test_a_page_whose_name_points_to_this_machine_signs_nobody_in(local: Running) -> None:
    port = local.url.rpartition(":")[2]
    async with httpx.AsyncClient(base_url=local.url, headers={"Host": f"evil.example:{port}"}) as client:
        for path, body in (
            ("/accounts", {**ADMIN, "userName": "Local Admin"}),
            ("/accounts/sign_in", ADMIN),
            ("/accounts/email_verifications", {"email": ADMIN["email"]}),
        ):
            assert (await client.post(path, json=body)).status_code == 403


@pytest.mark.parametrize(
    "setting",
    [
        {"http": "0.0.0.0:8099"},
        {"http": ":8099"},
        {"http": "192.168.1.7:8099"},
        {"http": "plans.example:8099"},
        {"grpc": "[::]:50051"},
        {"listen": {"plans": "0.0.0.0:8099"}},
        {"public_url": "http://localhost:8099"},
    ],
)
def test_it_does_not_start_where_others_could_reach_it(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="local_mode believes everybody"):
        Settings(local_mode=True, **setting)
    Settings(**setting)


@pytest.mark.parametrize("address", ["127.0.0.1:8099", "127.3.2.1:8099", "[::1]:8099", "localhost:8099"])
def test_loopback_addresses_are_its_own(address: str) -> None:
    assert Settings(local_mode=True, http=address, listen={"plans": address}).local_mode


def test_the_program_says_why_it_does_not_start() -> None:
    done = CliRunner().invoke(cli, ["serve", "--local-mode", "--http", "0.0.0.0:0"])
    assert done.exit_code == 2
    assert "http must be a loopback address, not 0.0.0.0:0" in done.output


def test_it_is_off_unless_asked_for() -> None:
    assert Settings().local_mode is False
