"""Users, organisations and keys made on the command line, also beside a running server."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.cmd.conftest import Run, Serve


@pytest.fixture
def migrated(run: Run, data: Path) -> Path:
    assert run("migrate", "--data", data).status == 0
    return data


def test_a_key_made_while_the_server_runs_works_at_once(serve: Serve, run: Run, data: Path) -> None:
    server = serve("--json")
    made = run("key", "create", "--data", data, "--kind", "telemetry", "--scopes", "read,write", "--json").json
    with httpx.Client(base_url=server.ready["http"], headers={"x-api-key": made["key"]}) as client:
        answer = client.get("/api/auth/verify-key")
    assert answer.status_code == 200
    assert answer.json()["org_id"] == made["org_id"]
    assert sorted(answer.json()["scopes"]) == ["read", "write"]
    made = run("key", "create", "--data", data, "--kind", "maker", "--scopes", "plans:read,plans:run", "--json").json
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    with httpx.Client(base_url=server.ready["http"], headers={"authorization": f"Bearer {made['key']}"}) as client:
        tools = client.post("/mcp", json=listing, headers={"accept": "application/json"}).json()["result"]["tools"]
    assert {tool["name"] for tool in tools} == {"plans_diff", "plans_list", "plans_run_status", "plans_tell"}


@pytest.mark.parametrize(("kind", "prefix"), [("telemetry", "plx_"), ("maker", "plnx_"), ("lab", "wm_")])
def test_a_key_shows_its_kind_and_may_be_shown_again_only_in_part(run: Run, migrated: Path, kind: str, prefix: str) -> None:
    run("user", "create", "ann@example.com", "--data", migrated)
    made = run("key", "create", "--data", migrated, "--kind", kind, "--user", "ann@example.com", "--json").json
    assert made["key"].startswith(prefix)
    assert made["key"].startswith(made["prefix"])
    assert len(made["prefix"]) < len(made["key"]) // 2
    assert (made["kind"], made["scopes"]) == (kind, ["*"])


def test_a_key_can_be_held_by_an_organisation(run: Run, migrated: Path) -> None:
    org = run("org", "create", "Bench", "--data", migrated, "--json").json
    made = run("key", "create", "--data", migrated, "--kind", "lab", "--org", org["id"], "--json").json
    assert (made["org_id"], made["user_id"]) == (org["id"], None)


def test_a_key_for_nobody_is_refused_in_a_sentence(run: Run, migrated: Path) -> None:
    for holder in (("--user", "ghost@example.com"), ("--org", "org_ghost")):
        done = run("key", "create", "--data", migrated, "--kind", "lab", *holder)
        assert done.status == 1
        assert "not found" in done.err
        assert "Traceback" not in done.err


def test_a_database_that_was_never_migrated_says_what_to_type(run: Run, data: Path) -> None:
    done = run("org", "list", "--data", data)
    assert done.status == 1
    assert "busbar migrate" in done.err


def test_migrating_again_changes_nothing(run: Run, migrated: Path) -> None:
    assert "already" in run("migrate", "--data", migrated).out


def test_a_users_address_is_taken_once(run: Run, migrated: Path) -> None:
    first = run("user", "create", "ann@example.com", "--role", "admin", "--data", migrated, "--json")
    second = run("user", "create", "ann@example.com", "--data", migrated)
    assert (first.json["username"], first.json["role"]) == ("ann", "admin")
    assert len(first.json["password"]) >= 12
    assert (second.status, second.err) == (1, "busbar: email is already registered\n")


def test_a_password_from_standard_input_is_not_printed(run: Run, migrated: Path) -> None:
    done = run("user", "create", "ann@example.com", "--password-stdin", "--data", migrated, "--json", stdin="open sesame 1\n")
    assert done.json["password"] is None
    assert "sesame" not in done.out + done.err


def test_organisations_are_listed_oldest_first(run: Run, migrated: Path) -> None:
    for name in ("North", "South"):
        run("org", "create", name, "--data", migrated)
    listed = run("org", "list", "--data", migrated, "--json").json
    assert [org["name"] for org in listed] == ["North", "South"]


def test_a_key_revoked_on_the_command_line_shows_so_in_the_list(run: Run, migrated: Path) -> None:
    org = run("org", "create", "Bench", "--data", migrated, "--json").json
    options = ("--org", org["id"], "--data", migrated, "--json")
    made = [run("key", "create", "--kind", "telemetry", "--name", name, *options).json for name in ("a", "b")]
    assert run("key", "revoke", made[0]["id"], "--data", migrated, "--json").json["revoked_at"]
    listed = run("key", "list", *options)
    assert made[1]["key"] not in listed.out
    assert [(key["name"], key["revoked_at"] is None) for key in json.loads(listed.out)] == [("a", False), ("b", True)]
    unknown = run("key", "revoke", "cred_ghost", "--data", migrated)
    assert (unknown.status, "not found" in unknown.err) == (1, True)
