"""Somebody's things of the plans area: one of each kind that an rpc can name."""

from __future__ import annotations

from typing import Any

from tests.conftest import Person, Running

MINI = "openai/gpt-4.1-mini"
ROLES = ("planner", "planSummary", "builder", "namer", "commitMsg", "execStatus")


def pack(name: str, model: str = MINI) -> dict[str, Any]:
    """Return a pack of models in the short form, whose roles are all played by one."""
    return {"name": name, **dict.fromkeys(ROLES, model)}


async def plans_things(busbar: Running, person: Person) -> dict[str, Any]:
    """Make a thing of each kind, and return by which values requests name them."""
    client = busbar.client("grpc", person.session)
    project = await client.call("plans.ProjectService.CreateProject", name="p")
    plan = await client.call("PlanService.CreatePlan", project_id=project.id)
    main = {"plan_id": plan.id, "branch": "main"}
    await client.call("ContextService.LoadContext", **main, items=[{"contextType": "note", "name": "n", "body": "b"}])
    loaded = (await client.call("ContextService.ListContext", **main)).contexts
    logs = await client.call("HistoryService.ListLogs", **main)
    models = [{"modelId": "ours/one", "publisher": "ours", "maxTokens": 1000}]
    providers = [{"name": "gate", "baseUrl": "https://gate.example"}]
    await client.call("ModelService.UpsertCustomModels", models=models, providers=providers, model_packs=[])
    made = await client.call("ModelService.CreateModelSet", pack=pack("ours"))
    kept = (await client.call("ModelService.ListCustomModels")).models
    known = (await client.call("ModelService.ListCustomProviders")).providers
    roles = {role.label: role.id for role in (await client.call("OrgService.ListOrgRoles")).roles}
    await client.call("InviteService.CreateInvite", email="invited@example.com", org_role_id=roles["Member"])
    invites = (await client.call("InviteService.ListPendingInvites")).invites
    return {
        **main,
        "project_id": project.id,
        "sha": logs.shas[0],
        "context_id": loaded[0].id,
        "set_id": made.id,
        "model_id": kept[0].id,
        "provider_id": known[0].id,
        "invite_id": invites[0].id,
        "user_id": person.id,
        "run_id": "x",
    }
