"""What is peculiar to the surface of plans: texts, answers without a body, frames with a mark, and who gets JSON errors."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any

import httpx
import pytest

from adapters.mcp.tools import AgentTool
from adapters.rest import dialects, streams
from adapters.rest.openapi import build_document
from core.kernel.call import Call
from core.kernel.errors import DomainError, NotFound, PermissionDenied, Unauthenticated
from core.kernel.rpc import Rpc, bind
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import Surface
from gen.busbar.plans.v1 import changes_pb as changes
from gen.busbar.plans.v1 import contexts_pb as contexts
from gen.busbar.plans.v1 import file_maps_pb as maps
from gen.busbar.plans.v1 import runs_pb as runs
from gen.busbar.plans.v1 import version_pb as version
from gen.busbar.system.v1 import health_pb as health
from tests.rest.fakes import HealthService, World, client, made, rest_app

TOKEN = base64.urlsafe_b64encode(b'{"token":"session-of-alice","orgId":"org","hash":""}').decode()
SIGNED_IN = {"authorization": f"Bearer {TOKEN}"}
BRANCH = "/plans/p/main"
TELL = {"prompt": "hello", "buildMode": "auto", "connectStream": True, "apiKeys": None, "authVars": {}, "projectPaths": None}
MODULES = (changes, contexts, maps, runs, version)


class Plans:
    """A door before services whose answers a test chooses by rpc; the others answer with an empty message."""

    def __init__(self, **answers: Any) -> None:
        self.world = World()
        self._answers = answers

    def rpcs(self) -> list[Rpc]:
        found = [rpc for module in MODULES for rpc in self._bound(module)]
        return [*found, *bind(health.desc().services[0], made(HealthService, health.desc().services[0])(self.world))]

    def web(self, **options: Any) -> httpx.AsyncClient:
        return client(rest_app(self.rpcs(), **options), headers=SIGNED_IN)

    def _bound(self, module: ModuleType) -> list[Rpc]:
        service = module.desc().services[0]
        return bind(service, made(None, service, self._answers)(self.world))


def saying(*messages: runs.StreamMessage | DomainError | Exception | Callable[[], Any]) -> Any:
    """Return what yields messages, raises errors and waits for the rest."""

    async def stream(_request: Any, _call: Call) -> AsyncIterator[runs.StreamMessage]:
        for message in messages:
            if isinstance(message, Exception):
                raise message
            if isinstance(message, runs.StreamMessage):
                yield message
            else:
                await message()

    return stream


def frames(answer: httpx.Response) -> list[Any]:
    *texts, rest = answer.text.split("@@PX@@")
    assert rest == ""
    return [text if text == "heartbeat" else json.loads(text) for text in texts]


async def test_a_run_is_streamed_in_frames_that_end_with_the_mark() -> None:
    plans = Plans(StreamTell=saying(runs.StreamMessage(type="start"), runs.StreamMessage(type="reply", reply_chunk="Hi")))
    async with plans.web() as web:
        answer = await web.post(f"{BRANCH}/tell", json=TELL)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert frames(answer) == [{"type": "start"}, {"type": "reply", "replyChunk": "Hi"}]
    asked = plans.world.request.tell
    assert (asked.plan_id, asked.branch, asked.prompt, asked.build_mode) == ("p", "main", "hello", "auto")


async def test_a_mark_within_a_text_ends_no_frame() -> None:
    said = runs.StreamMessage(type="reply", reply_chunk='a@@PX@@b\\@@PX@@"@@PX@@')
    async with Plans(StreamTell=saying(said)).web() as web:
        answer = await web.post(f"{BRANCH}/tell", json=TELL)
    assert frames(answer) == [{"type": "reply", "replyChunk": said.reply_chunk}]


async def test_silence_is_broken_by_the_bare_word_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    form = dialects.DIALECTS[Surface.PLANS].form
    quick = dialects.Form(form.mark, form.content_type, form.keep_alive, 0.01, waits=form.waits)
    monkeypatch.setitem(dialects.DIALECTS, Surface.PLANS, dialects.replace(dialects.DIALECTS[Surface.PLANS], form=quick))
    monkeypatch.setattr(streams, "GRACE_SECONDS", 0.01)
    messages = saying(runs.StreamMessage(type="start"), lambda: asyncio.sleep(0.1), runs.StreamMessage(type="finished"))
    async with Plans(StreamTell=messages).web() as web:
        first, *beats, last = frames(await web.post(f"{BRANCH}/tell", json=TELL))
    assert (first, last) == ({"type": "start"}, {"type": "finished"})
    assert beats
    assert set(beats) == {"heartbeat"}


async def test_a_refusal_before_the_first_frame_has_its_own_status() -> None:
    async def late() -> None:
        await asyncio.sleep(0.4)

    async with Plans(StreamBuild=saying(late, NotFound("No builds"))).web() as web:
        answer = await web.patch(f"{BRANCH}/build", json={"connectStream": True})
    assert (answer.status_code, answer.text) == (404, "No builds\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_a_failure_within_a_stream_is_a_frame_of_type_error() -> None:
    async with Plans(ConnectRun=saying(runs.StreamMessage(type="start"), RuntimeError("secret"))).web() as web:
        first, last = frames(await web.patch(f"{BRANCH}/connect"))
    assert first == {"type": "start"}
    assert last == {"type": "error", "error": {"type": "other", "status": 500, "msg": "internal error"}}


async def test_a_run_that_nobody_follows_is_answered_at_once_without_a_body() -> None:
    plans = Plans()
    async with plans.web() as web:
        answer = await web.post(f"{BRANCH}/tell", json={**TELL, "connectStream": False})
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    assert plans.world.request.prompt == "hello"


async def test_texts_are_plain_texts() -> None:
    async def diffs(_request: Any, _call: Call) -> changes.Diffs:
        return changes.Diffs(diff="--- a\n+++ b\n")

    async def told(_request: Any, _call: Call) -> version.Version:
        return version.Version(version="2.2.1")

    plans = Plans(GetDiffs=diffs, GetVersion=told)
    async with plans.web() as web:
        answer = await web.get(f"{BRANCH}/diffs?plain=true")
        assert (answer.text, answer.headers["content-type"]) == ("--- a\n+++ b\n", "text/plain; charset=utf-8")
        assert plans.world.request.plain
        assert (await web.get("/version")).text == "2.2.1"


async def test_what_is_empty_is_left_out_only_where_the_contract_leaves_it_out() -> None:
    async def listed(_request: Any, _call: Call) -> contexts.ListContextResponse:
        note = contexts.Context(id="c", context_type="note", map_shas={}, body_size=0)
        return contexts.ListContextResponse(contexts=[note, contexts.Context(id="d", body="x", map_shas={"a.py": "1"})])

    async with Plans(ListContext=listed).web() as web:
        note, other = (await web.get(f"{BRANCH}/context")).json()
    assert {"body", "bodySize", "imageDetail", "mapParts", "mapShas"}.isdisjoint(note)
    assert (note["file_path"], note["numTokens"], note["forceSkipIgnore"], note["createdAt"]) == ("", 0, False, None)
    assert (other["body"], other["mapShas"]) == ("x", {"a.py": "1"})


async def test_maps_of_lists_are_shown_bare() -> None:
    state = changes.PlanResult(
        sorted_paths=["a"],
        file_results_by_path={"a": changes.PlanFileResults(results=[changes.PlanFileResult(id="r")])},
        replacements_by_path={"a": changes.Replacements()},
    )

    async def current(_request: Any, _call: Call) -> changes.CurrentPlanState:
        return changes.CurrentPlanState(plan_result=state)

    async def cached(_request: Any, _call: Call) -> maps.LoadCachedFileMapResponse:
        return maps.LoadCachedFileMapResponse()

    async with Plans(GetCurrentPlan=current, LoadCachedFileMap=cached).web() as web:
        result = (await web.get(f"{BRANCH}/current_plan")).json()["planResult"]
        nothing = (await web.post(f"{BRANCH}/load_cached_file_map", json={"filePaths": ["."]})).json()
    assert [entry["id"] for entry in result["fileResultsByPath"]["a"]] == ["r"]
    assert result["replacementsByPath"] == {"a": []}
    assert nothing == {"loadRes": None, "cachedByPath": None}


async def test_bodies_may_be_lists_and_maps_and_come_with_delete() -> None:
    plans = Plans()
    everything = {"contextType": "file", "file_path": "a.py", "body": "x", "inputShas": None, "apiKeys": None, "unknown": 1}
    async with plans.web() as web:
        assert (await web.post(f"{BRANCH}/context", json=[everything])).status_code == 200
        assert [(item.file_path, item.body) for item in plans.world.request.items] == [("a.py", "x")]
        change = {"c": {"body": "y", "removedMapPaths": None}}
        assert (await web.put(f"{BRANCH}/context", json=change)).status_code == 200
        assert plans.world.request.contexts["c"].body == "y"
        answer = await web.request("DELETE", f"{BRANCH}/context", json={"ids": {"c": True}})
    assert (answer.status_code, answer.headers["content-type"], answer.json()["tokensRemoved"]) == (200, "application/json", 0)
    assert plans.world.request.ids == {"c": True}


async def test_literal_paths_come_before_variables() -> None:
    plans = Plans()
    async with plans.web() as web:
        assert (await web.get("/plans/ps?projectId=a&projectId=b&recent=true")).status_code == 200
        assert list(plans.world.request.project_id) == ["a", "b"]
        await web.get("/plans/p/current_plan/abcdef1")
    assert plans.world.request.sha == "abcdef1"


def refusing(error: DomainError) -> Any:
    async def refuse(_request: Any, _call: Call) -> contexts.ListContextResponse:
        raise error

    return refuse


async def test_errors_are_texts_unless_the_caller_asks_for_json() -> None:
    async with Plans(ListContext=refusing(NotFound("plan not found"))).web() as web:
        text = await web.get(f"{BRANCH}/context")
        asked = await web.get(f"{BRANCH}/context", headers={"accept": "application/json"})
    assert (text.status_code, text.text, text.headers["content-type"]) == (404, "plan not found\n", "text/plain; charset=utf-8")
    assert (asked.headers["content-type"], asked.json()) == (
        "application/json",
        {"type": "other", "status": 404, "msg": "plan not found"},
    )


@pytest.mark.parametrize(
    ("headers", "kind", "body"),
    [
        ({"authorization": ""}, "text/plain; charset=utf-8", "no auth header\n"),
        ({"authorization": "Bearer nonsense"}, "application/json", None),
        ({"authorization": "Bearer " + base64.urlsafe_b64encode(b'{"token":"stale"}').decode()}, "application/json", None),
    ],
)
async def test_only_a_token_that_does_not_count_is_an_invalid_token(
    headers: dict[str, str], kind: str, body: str | None
) -> None:
    async with Plans().web() as web:
        del web.headers["authorization"]
        answer = await web.get(f"{BRANCH}/context", headers={name: value for name, value in headers.items() if value})
    assert (answer.status_code, answer.headers["content-type"]) == (401, kind)
    if body is None:
        assert answer.json() == {"type": "invalid_token", "status": 401, "msg": "Invalid auth token"}
    else:
        assert answer.text == body


async def test_a_plan_of_somebody_else_does_not_make_the_client_sign_in_again() -> None:
    async with Plans(ListContext=refusing(Unauthenticated("no access to plan"))).web() as web:
        answer = await web.get(f"{BRANCH}/context")
    assert (answer.status_code, answer.text) == (401, "no access to plan\n")


async def test_local_mode_refuses_in_json_so_that_the_client_stops() -> None:
    refusal = PermissionDenied("not available in local mode", reason=ErrorReason.LOCAL_MODE)
    async with Plans(ListContext=refusing(refusal)).web() as web:
        answer = await web.get(f"{BRANCH}/context")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"type": "other", "status": 403, "msg": "not available in local mode"}


async def test_what_nothing_serves_is_told_in_text() -> None:
    async with Plans().web() as web:
        assert (await web.get("/nothing/here")).text == "not found\n"
        wrong = await web.delete("/version")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_a_listener_of_its_own_answers_health_in_text() -> None:
    async with Plans().web(surfaces={Surface.PLANS}) as web:
        answer = await web.get("/health")
    assert (answer.text, answer.headers["content-type"]) == ("OK", "text/plain; charset=utf-8")
    async with Plans().web() as web:
        assert (await web.get("/health")).json()["status"] == "ok"


async def test_a_body_beyond_the_limit_that_is_set_is_refused() -> None:
    async with Plans().web(plans={"body_bytes": 2048}) as web:
        answer = await web.post("/file_map", json={"mapInputs": {"a.py": "x" * 4000}})
    assert answer.status_code == 413


def test_the_document_shows_texts_empty_answers_and_both_forms_of_a_run() -> None:
    document = build_document(Plans().rpcs())
    answers = {
        (method, path): item[method]["responses"]["200"].get("content", {})
        for path, item in document["paths"].items()
        for method in item
        if path.startswith("/plans/")
    }
    assert list(answers["get", "/plans/{planId}/{branch}/diffs"]) == ["text/plain"]
    assert answers["patch", "/plans/{planId}/{branch}/reject_all"] == {}
    assert set(answers["post", "/plans/{planId}/{branch}/tell"]) == {"text/plain", "text/event-stream"}
    context = document["components"]["schemas"]["Context"]
    assert "file_path" in context["required"]
    assert "body" not in context["required"]


def test_agents_see_members_that_may_be_left_out_as_optional() -> None:
    tool = next(AgentTool(rpc, rpc.tool) for rpc in Plans().rpcs() if rpc.tool is not None and rpc.tool.name == "plans_tell")
    assert "prompt" in tool.listing["inputSchema"]["properties"]
    assert {"connectStream", "authVars"}.isdisjoint(tool.listing["inputSchema"]["properties"])
