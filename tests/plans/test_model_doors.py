"""Models and settings as clients of the contract read them, and a plan that a development model carries out."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from adapters.dev_model.server import DevModel
from tests.conftest import Person, Running, Start

MINI = "openai/gpt-4.1-mini"
PACK = dict.fromkeys(("planner", "planSummary", "builder", "namer", "commitMsg", "execStatus"), MINI)


class Rest:
    """The REST door, for one person."""

    def __init__(self, running: Running, person: Person) -> None:
        self._http = running.http(person.session)
        self._headers = {"Authorization": f"Bearer {person.session}"}

    async def send(self, verb: str, path: str, body: Any = None) -> httpx.Response:
        return await self._http.request(verb, path, json=body, headers=self._headers, timeout=60)

    async def read(self, path: str) -> Any:
        answer = await self.send("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def plan(self) -> str:
        project = (await self.send("POST", "/projects", {"name": "Rig"})).json()["id"]
        return "/plans/" + (await self.send("POST", f"/projects/{project}/plans", {"name": ""})).json()["id"]


async def test_rest_reads_and_writes_what_an_organisation_brings_along(busbar: Running, alice: Person, eve: Person) -> None:
    rest = Rest(busbar, alice)
    model = {
        "modelId": "ours/one",
        "publisher": "ours",
        "description": "",
        "defaultMaxConvoTokens": 100,
        "maxTokens": 1000,
        "maxOutputTokens": 100,
        "reservedOutputTokens": 100,
        "preferredOutputFormat": "xml",
        "hasImageSupport": False,
        "providers": [{"provider": "custom", "customProvider": "gate", "modelName": "one"}],
    }
    whole = {
        "models": [model],
        "providers": [{"name": "gate", "baseUrl": "https://gate.example", "skipAuth": True, "extraAuthVars": None}],
        "modelPacks": [{"name": "ours", "description": "", **PACK, "coder": {"modelId": "ours/one", "temperature": 0.5}}],
    }
    answer = await rest.send("POST", "/custom_models", whole)
    assert (answer.status_code, answer.content) == (200, b"")
    (listed,) = await rest.read("/custom_models")
    assert {name: listed[name] for name in model} == model
    assert not {"stopDisabled", "reasoningBudget"} & set(listed)
    assert await rest.read(f"/custom_models/{listed['id']}") == listed
    assert (await rest.read("/custom_providers"))[0]["baseUrl"] == "https://gate.example"
    (pack,) = await rest.read("/model_sets")
    assert (pack["coder"]["modelId"], pack["coder"]["temperature"], pack["contextLoader"]) == ("ours/one", 0.5, None)
    assert await Rest(busbar, eve).read("/custom_models") == []

    refused = await rest.send("POST", "/custom_models", {"models": [{**model, "modelId": MINI}]})
    assert (refused.status_code, refused.headers["content-type"]) == (422, "text/plain; charset=utf-8")
    made = await rest.send("POST", "/model_sets", {"name": "more", **PACK})
    assert made.status_code == 201
    changed = await rest.send("PUT", f"/model_sets/{made.json()['id']}", {"name": "more", **PACK, "coder": MINI})
    assert (changed.status_code, changed.content) == (200, b"")


async def test_rest_reads_and_writes_settings_and_configurations(busbar: Running, alice: Person) -> None:
    rest = Rest(busbar, alice)
    plan = await rest.plan()
    settings = await rest.read(f"{plan}/main/settings")
    assert (settings["configured"], settings["isCloud"]) == (True, False)
    assert (settings["modelPackName"], settings["modelPack"]) == ("daily-driver", None)
    assert (settings["customModels"], settings["customModelsById"], settings["usesCustomProviderByModelId"]) == ([], {}, {})
    chosen = await rest.send("PUT", f"{plan}/main/settings", {"modelPackName": "cheap", "modelPack": None})
    assert chosen.json() == {"msg": "⚙️  Updated model settings:\n  • model-pack | daily-driver → cheap"}
    assert chosen.json()["msg"] in (await rest.read(f"{plan}/main/logs"))["body"]
    for body, status in (({"modelPackName": "", "modelPack": None}, 400), ({"modelPackName": "gone"}, 422)):
        assert (await rest.send("PUT", f"{plan}/main/settings", body)).status_code == status
    assert (await rest.send("PUT", "/default_settings", {"modelPackName": "strong"})).status_code == 200
    assert (await rest.read("/default_settings"))["modelPackName"] == "strong"

    config = (await rest.read("/default_plan_config"))["config"]
    assert len(config) == 19
    assert (config["autoMode"], config["autoContext"], config["editorArgs"] or []) == ("semi", True, [])
    for path in ("/default_plan_config", f"{plan}/config"):
        answer = await rest.send("PUT", path, {"config": {**config, "autoMode": "none", "editorArgs": None}})
        assert (answer.status_code, answer.content) == (200, b"")
        assert (await rest.read(path))["config"]["autoMode"] == "none"
    empty = {
        "promptedClaudeMax": False,
        "useClaudeSubscription": False,
        "claudeSubscriptionCooldownStartedAt": "0001-01-01T00:00:00Z",
    }
    assert await rest.read("/org_user_config") == empty
    answer = await rest.send("PUT", "/org_user_config", {**empty, "promptedClaudeMax": True})
    assert (answer.status_code, answer.content) == (200, b"")
    assert await rest.read("/org_user_config") == {**empty, "promptedClaudeMax": True}


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_choice_of_models_is_the_same_over_every_door(busbar: Running, alice: Person, door: str) -> None:
    client = busbar.client(door, alice.session)
    project = (await client.call("plans.ProjectService.CreateProject", name="Rig")).id
    plan = (await client.call("PlanService.CreatePlan", project_id=project, name="x")).id
    await client.call("SettingsService.UpdateSettings", plan_id=plan, branch="main", model_pack_name="cheap")
    assert (await client.call("SettingsService.GetSettings", plan_id=plan, branch="main")).model_pack_name == "cheap"


async def test_a_development_model_carries_a_plan_out_without_any_key(start: Start) -> None:
    model = DevModel()
    url = await model.start()
    try:
        busbar = await start(plan_models={"dev_url": url}, plans={"pace_ms": 0})
        rest = Rest(busbar, await busbar.person("alice"))
        plan = await rest.plan()
        settings = await rest.read(f"{plan}/main/settings")
        (pack,) = (one for one in settings["customModelPacks"] if one["name"] == settings["modelPackName"])
        assert pack["coder"]["modelId"] in settings["customModelsById"]
        assert [one["skipAuth"] for one in settings["customProviders"]] == [True]

        item = {"contextType": "file", "name": "old.txt", "file_path": "old.txt", "body": "old\n"}
        await rest.send("POST", f"{plan}/main/context", [item])
        body = {
            "prompt": "write src/a.py: print(1)\\nprint(2)\nremove old.txt",
            "buildMode": "auto",
            "connectStream": True,
            "autoContinue": True,
            "authVars": {},
            "projectPaths": {"old.txt": True},
        }
        told = await rest.send("POST", f"{plan}/main/tell", body)
        messages = [json.loads(part) for part in told.text.split("@@PX@@") if part and part != "heartbeat"]
        assert messages[-1]["type"] == "finished", messages[-1]
        files = (await rest.read(f"{plan}/main/current_plan"))["currentPlanFiles"]
        assert files["files"] == {"src/a.py": "print(1)\nprint(2)\n"}
        assert files["removedByPath"] == {"old.txt": True}
        applied = await rest.send("PATCH", f"{plan}/main/apply", {"authVars": {}})
        assert applied.text.strip() == "Update src/a.py, old.txt"
        assert (await rest.read(plan))["name"] == "dev-plan"
    finally:
        await model.stop()
