"""Requests made from the served OpenAPI document, valid and broken, by schemathesis: every answer is one that it describes."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import provider
from tests.faults.process import Account, ServerProcess, prepare, serving

PROGRAM = Path(sys.executable).with_name("schemathesis")
EXAMPLES = 5
SECONDS = 200
HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.clients.schemathesis_hooks", "PYTHONPATH": str(HERE.parent.parent)}
ENDLESS = "(/subscribe|/replay)$"
"""Streams of lines, which never end and so cannot be read whole."""
LENIENT = "negative_data_rejection"
# Rules over several members are not made good for these paths as `schemathesis_hooks.py` does for the others.
UNMENDED = "positive_data_acceptance"


@dataclass(frozen=True)
class Part:
    """Some paths of the document.

    Attributes:
        caller: Who calls: `user`, `agent` or `device`.
        unfit: Checks that do not fit these paths.
        phases: Which ways of making requests are used.
    """

    paths: str
    caller: str
    unfit: tuple[str, ...] = ()
    phases: str = "examples,coverage,fuzzing"


BACKENDS: dict[str, dict[str, Any]] = {
    "payments": {"manual": "at_once"},
    "mqtt": {"url": "mqtt://127.0.0.1:9"},
    "plans": {"pace_ms": 0},
    "plan_models": {"retries": 0},
}
"""What the server is set up with, since a missing backend is a 503. Nothing listens where the broker should be."""


PARTS = {
    "boards": Part("^/api/(boards|mcp/keys|auth/session|auth/login)", "user"),
    "projects": Part("^/api/projects(/[^/]+(/(publish|unpublish|boards.*|collaborators.*|pins))?)?$", "user"),
    "documents": Part("^/api/projects/[^/]+/(wiring|pcb|case|widgets|firmware|documents.*)$", "user"),
    "people": Part("^/api/(me/(notifications|profile|referral)|public/|mcp/calls|auth/password-change)", "user"),
    "firmware": Part("^/api/(projects/[^/]+/firmware/artifacts|boards/[^/]+/ota|ota/)", "user"),
    "workbench": Part("^/api/workbench", "user"),
    "classrooms": Part("^/api/(classrooms|assignments|submissions|certificates|me/certificates)", "user"),
    "marketplace": Part("^/api/(marketplace|me/purchases|me/sales|purchases|public/users/.*/listings)", "user"),
    "register": Part("^/(api/auth/(register|logout)|accounts/sign_out)$", "user"),
    "home assistant": Part("^/api/ha", "agent"),
    "telemetry": Part("^(/api/v1/telemetry|/api/auth/verify-key|/health)", "device", (UNMENDED,)),
    # `pair` could be a source by its form, so its path has the methods of both.
    "recordings": Part(
        "^/api/(sources|sessions|runs|commands|device-tokens)", "device", (UNMENDED, "allow_header_conformance")
    ),
    # Numbers, switches and times are read leniently here. `latest` could be a datapoint by its form, and `link` an event.
    "lab": Part("^/api/v1/(events|experiments|datapoints)", "user", (UNMENDED, LENIENT, "allow_header_conformance")),
    "people of the lab": Part("^/api/v1/(users|tokens|logging|auth/(login|me|sso))", "user", (UNMENDED, LENIENT)),
    # `try` could be a rule by its form.
    "reactions": Part("^/api/v1/(rules|webhooks|dashboards)", "user", (UNMENDED, LENIENT, "allow_header_conformance")),
    "plugins": Part("^/api/v1/(plugins|ota)", "user", (UNMENDED, LENIENT, "allow_header_conformance")),
    # What ingest has no use for it does not look at, since devices send all kinds of members.
    "ingest": Part("^(/ingest|/api/ingest)", "device", (UNMENDED, LENIENT)),
    # `archive` and `ps` could be plans by their form, and names that the contract wants are refused in its own words.
    "plans": Part(
        "^/(projects|plans|custom_providers|default_plan_config|org_user_config|file_map|version)(/(?!.*settings$).*)?$",
        "user",
        (UNMENDED, "allow_header_conformance"),
    ),
    # `pending`, `accepted` and `all` could be invites by their form.
    "people of plans": Part("^/(accounts(?!/sign_out)|orgs|users|invites)", "user", ("allow_header_conformance",)),
    # Whether a pack can be used is told by the models that there are. It is too large to try every member one by one.
    "packs of models": Part("^/(custom_models|model_sets|default_settings|plans/.*/settings$)", "user", (UNMENDED,), "fuzzing"),
}


async def fuzz(server: ServerProcess, folder: Path, part: Part, header: str, plan: dict[str, str]) -> tuple[int | None, str]:
    """Return how a run ended, and what it printed."""
    environment = {**ENVIRONMENT, **plan}
    command = [PROGRAM, "--config-file", HERE / "schemathesis.toml", "run", f"{server.http}/openapi.json", "-H", header]
    bounds = ["--max-examples", str(EXAMPLES), "--request-timeout", "10", "--seed", "1", "--generation-database", "none"]
    paths = ["--include-path-regex", part.paths, "--exclude-path-regex", ENDLESS]
    modes = ["--phases", part.phases, "--continue-on-failure", "--no-color"]
    unfit = ["--exclude-checks", ",".join(part.unfit)] if part.unfit else []
    process = await asyncio.create_subprocess_exec(
        *command, *bounds, *paths, *modes, *unfit, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, env=environment
    )
    late = asyncio.get_running_loop().call_later(SECONDS, process.kill)
    out, _ = await process.communicate()
    late.cancel()
    return process.returncode, out.decode()


async def header_of(caller: str, account: Account, server: ServerProcess) -> str:
    """Return the header with which a caller comes."""
    if caller == "device":
        return f"x-api-key: {account.telemetry_key}"
    user = f"Bearer {account.session}"
    if caller == "user":
        return f"Authorization: {user}"
    async with httpx.AsyncClient(base_url=server.http, headers={"authorization": user}, timeout=20) as http:
        key = await http.post("/api/mcp/keys", json={"name": "k", "scopes": ["boards:read", "pins:read", "pins:write"]})
    return f"Authorization: Bearer {key.json()['key']}"


async def plan_for(part: Part, account: Account, server: ServerProcess) -> dict[str, str]:
    """Return the names of a plan for the paths that work on one."""
    if not re.match(part.paths, "/plans/x"):
        return {}
    user = {"authorization": f"Bearer {account.session}"}
    async with httpx.AsyncClient(base_url=server.http, headers=user, timeout=20) as http:
        project = (await http.post("/projects", json={"name": "Rig"})).json()["id"]
        plan = (await http.post(f"/projects/{project}/plans", json={"name": "parser"})).json()["id"]
    return {"PROJECT_ID": project, "PLAN_ID": plan}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
async def test_every_answer_is_one_that_the_document_describes(tmp_path: Path, part: Part) -> None:
    account = await prepare(tmp_path / "data")
    async with provider.serving() as models, serving(tmp_path / "data", **BACKENDS, **provider.settings(models)) as server:
        plan = await plan_for(part, account, server)
        status, printed = await fuzz(server, tmp_path, part, await header_of(part.caller, account, server), plan)
        assert b"Traceback" not in server.log
    assert status == 0, printed
