"""Plans through their doors: one journey over each, and what REST clients read byte by byte."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from protobuf.wkt import Timestamp

from core.identity.credentials import CredentialKind
from core.kernel.call import Principal
from core.plans.replacements import result_for
from core.plans.store import PlanStore
from gen.busbar.plans.v1.conversation_pb import ConvoMessageDescription, Operation
from tests.conftest import Person, Running
from tests.doors import Refused

NOW = Timestamp(seconds=1_750_000_000)


async def pending_file(busbar: Running, owner: Person, plan_id: str, path: str, old: str | None, new: str | None) -> None:
    """Let a reply change a file of the branch `main`."""
    caller = Principal("credential", CredentialKind.SESSION, owner.org_id, owner.id)
    async with busbar.app.found.part(PlanStore).change(caller, plan_id, "main") as change:
        change.state.descriptions.append(
            ConvoMessageDescription(
                id=f"d-{path}",
                convo_message_id="m",
                wrote_files=True,
                did_build=True,
                commit_msg=f"Change {path}",
                operations=[Operation(type="file", path=path)],
            )
        )
        change.state.results.append(result_for(path, old, new, message_id="m", build_id="b", now=NOW))
        change.message = "🏗️  Build pending changes"


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_plan_is_made_filled_forked_rewound_and_deleted(busbar: Running, alice: Person, door: str) -> None:
    client = busbar.client(door, alice.session)
    project = (await client.call("plans.ProjectService.CreateProject", name="Rig")).id
    plan = (await client.call("PlanService.CreatePlan", project_id=project, name="parser")).id
    main = {"plan_id": plan, "branch": "main"}
    items = [{"contextType": "file", "name": name, "file_path": name, "body": f"{name}\n"} for name in ("a.py", "b.py")]
    for item in items:
        await client.call("ContextService.LoadContext", **main, items=[item])
    log = await client.call("HistoryService.ListLogs", **main)
    assert len(log.shas) == 2
    await client.call("BranchService.CreateBranch", **main, name="wide")
    answer = await client.call("HistoryService.RewindPlan", **main, sha=log.shas[1])
    assert answer.latest_commit == log.body.split("\n\n")[1]
    assert list((await client.call("ChangeService.GetCurrentPlan", **main)).contexts_by_path) == ["a.py"]
    before = await client.call("ChangeService.GetPlanAt", plan_id=plan, sha=log.shas[0])
    assert sorted(before.contexts_by_path) == ["a.py", "b.py"]
    await client.call("HistoryService.UndoRewind", **main)
    listed = await client.call("BranchService.ListBranches", plan_id=plan)
    assert [(one.name, one.context_tokens) for one in listed.branches] == [("main", 4), ("wide", 4)]
    await client.call("BranchService.DeleteBranch", plan_id=plan, branch="wide")
    assert (await client.call("PlanService.GetPlan", plan_id=plan)).active_branches == 1
    await client.call("PlanService.DeletePlan", plan_id=plan)
    with pytest.raises(Refused, match="plan not found"):
        await client.call("PlanService.GetPlan", plan_id=plan)


async def test_an_agent_with_the_scopes_of_plans_makes_a_plan_and_takes_it_back(busbar: Running, alice: Person) -> None:
    scopes = ["plans:read", "plans:run", "plans:write"]
    made = await busbar.client("grpc", alice.session).call("AgentKeyService.CreateAgentKey", name="k", scopes=scopes)
    agent = busbar.client("mcp", made.key)
    project = (await agent.call("plans.ProjectService.CreateProject", name="Rig")).id
    listed = await agent.call("plans.ProjectService.ListProjects")
    assert [one.id for one in listed.projects] == [project]
    plan = (await agent.call("PlanService.CreatePlan", project_id=project, name="parser")).id
    main = {"plan_id": plan, "branch": "main"}
    for name in ("a.py", "b.py"):
        item = {"contextType": "file", "name": name, "file_path": name, "body": f"{name}\n"}
        await agent.call("ContextService.LoadContext", **main, items=[item])
    log = await agent.call("HistoryService.ListLogs", **main)
    assert len(log.shas) == 2
    back = await agent.call("HistoryService.RewindPlan", **main, sha=log.shas[1])
    assert back.latest_sha == log.shas[1]
    await agent.call("HistoryService.UndoRewind", **main)
    assert await agent.call("HistoryService.ListLogs", **main) == log


async def rest(busbar: Running, person: Person, verb: str, path: str, body: Any = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {person.session}"}
    return await busbar.http(person.session).request(verb, path, json=body, headers=headers)


async def test_rest_answers_as_clients_of_the_contract_read_it(busbar: Running, alice: Person, eve: Person) -> None:
    project = (await rest(busbar, alice, "POST", "/projects", {"name": "Rig"})).json()["id"]
    made = (await rest(busbar, alice, "POST", f"/projects/{project}/plans", {"name": ""})).json()
    assert made == {"id": made["id"], "name": "draft"}
    plan = f"/plans/{made['id']}"
    (listed,) = (await rest(busbar, alice, "GET", f"/plans?projectId={project}")).json()
    assert (listed["name"], listed["activeBranches"], listed["totalReplies"]) == ("draft", 1, 0)
    assert listed["planConfig"]["autoMode"] == "semi"
    assert "archivedAt" not in listed
    (branch,) = (await rest(busbar, alice, "GET", f"{plan}/branches")).json()
    assert (branch["name"], branch["parentBranchId"], branch["status"]) == ("main", None, "draft")

    state = (await rest(busbar, alice, "GET", f"{plan}/main/current_plan")).json()
    assert state["planResult"] == {"sortedPaths": [], "fileResultsByPath": {}, "results": [], "replacementsByPath": {}}
    assert state["currentPlanFiles"] == {"files": {}, "removedByPath": {}, "updatedAtByPath": {}}
    assert (await rest(busbar, alice, "GET", f"{plan}/main/logs")).json() == {"shas": [], "body": ""}

    await pending_file(busbar, alice, made["id"], "a.py", None, "one\n")
    state = (await rest(busbar, alice, "GET", f"{plan}/main/current_plan")).json()
    (result,) = state["planResult"]["fileResultsByPath"]["a.py"]
    assert (result["content"], result["replacements"], result["typeVersion"]) == ("one\n", [], 1)
    diff = await rest(busbar, alice, "GET", f"{plan}/main/diffs?plain=true")
    assert diff.headers["content-type"].startswith("text/plain")
    assert diff.text.endswith("+++ b/a.py\n@@ -0,0 +1 @@\n+one\n")
    assert "\x1b[32m+one" in (await rest(busbar, alice, "GET", f"{plan}/main/diffs")).text

    applied = await rest(busbar, alice, "PATCH", f"{plan}/main/apply", {"authVars": {}, "sessionId": "s", "apiKeys": None})
    assert (applied.status_code, applied.text) == (200, "Change a.py\n")
    again = await rest(busbar, alice, "PATCH", f"{plan}/main/apply", {"authVars": {}})
    assert (again.status_code, again.text) == (200, "")
    rejected = await rest(busbar, alice, "PATCH", f"{plan}/main/reject_file", {"filePath": "a.py"})
    assert (rejected.status_code, rejected.headers["content-type"].split(";")[0]) == (404, "text/plain")
    assert (await rest(busbar, alice, "PATCH", f"{plan}/main/reject_all")).status_code == 200
    assert (await rest(busbar, alice, "GET", f"{plan}/main/status")).text == ""
    current = {"currentBranchByPlanId": {made["id"]: "main"}}
    answer = (await rest(busbar, alice, "POST", f"/projects/{project}/plans/current_branches", current)).json()
    assert answer[made["id"]]["name"] == "main"

    assert (await rest(busbar, eve, "GET", plan)).status_code == 404
    assert (await rest(busbar, alice, "POST", f"{plan}/main/branches", {"name": "a b"})).status_code == 400
    assert (await rest(busbar, alice, "POST", f"{plan}/main/branches", {"name": "main"})).status_code == 409
    assert (await rest(busbar, alice, "DELETE", f"{plan}/branches/main")).status_code == 400
    assert (await rest(busbar, alice, "PATCH", f"{plan}/unarchive")).text == "Plan isn't archived\n"
    gone = await rest(busbar, alice, "DELETE", plan)
    assert (gone.status_code, gone.content) == (200, b"")


async def test_agents_see_apply_reject_and_rewind_changes(busbar: Running, alice: Person) -> None:
    key = await busbar.key(alice, CredentialKind.SESSION)
    agent = busbar.client("mcp", key)
    project = (await busbar.client("grpc", alice.session).call("plans.ProjectService.CreateProject", name="Rig")).id
    plan = (await agent.call("PlanService.CreatePlan", project_id=project, name="parser")).id
    main = {"plan_id": plan, "branch": "main"}
    for path in ("a.py", "b.py"):
        await pending_file(busbar, alice, plan, path, None, "one\n")
    assert "+++ b/b.py" in (await agent.call("ChangeService.GetDiffs", **main, plain=True)).diff
    await agent.call("ChangeService.RejectFiles", **main, paths=["b.py"])
    log = await busbar.client("grpc", alice.session).call("HistoryService.ListLogs", **main)
    await agent.call("HistoryService.RewindPlan", **main, sha=log.shas[2])
    assert (await agent.call("ChangeService.ApplyPlan", **main)).commit_msg == "Change a.py\n"
