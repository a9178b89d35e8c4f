"""A command line for plans, written from the contract: it makes the requests of each command and reads the answers strictly.

What the original keeps in files of the user (session, current plan, current branch) is kept in attributes; the project is a
folder.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from tests.clients.plans import shapes
from tests.clients.plans.shapes import Map, check

MARK = "@@PX@@"
VERSION = "2.2.1"
EMAIL, USER_NAME, ORG_NAME = "local-admin@plandex.ai", "Local Admin", "Local Org"
FINAL = frozenset({"finished", "error", "aborted"})
SILENCE_SECONDS = 16.0
DAYS, MONTHS = "Mon|Tue|Wed|Thu|Fri|Sat|Sun", "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
TIME = rf"({DAYS}) ({MONTHS}) [1-3]?\d, \d{{4}} \| 1?\d:[0-5]\d:[0-5]\d[ap]m UTC"
HEADER = re.compile(rf"📝 Update (?P<sha>[0-9a-f]+) \| {TIME}")


class Failed(Exception):
    """The server refused; `status` and the text tell why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Exited(Failed):
    """The server refused in JSON, at which the original ends at once."""


@dataclass
class Seen:
    """What a run showed.

    Attributes:
        replies: Text of each reply.
        built: Files whose build ended, in order.
        removed: Those of them that are removed.
        messages: Every message, with those of a `multi` in its place.
        heartbeats: How many there were.
    """

    replies: list[str] = field(default_factory=lambda: [""])
    built: list[str] = field(default_factory=list[str])
    removed: list[str] = field(default_factory=list[str])
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    heartbeats: int = 0
    described: bool = False

    def take(self, message: dict[str, Any]) -> None:
        """Show a message."""
        kind = message["type"]
        if kind == "connectActive":
            self.replies = [*message.get("initReplies", []), ""]
        elif kind == "reply":
            if self.described and message["replyChunk"]:
                self.replies.append("")
                self.described = False
            self.replies[-1] += message["replyChunk"]
        elif kind == "describing":
            self.described = True
        elif kind == "buildInfo" and message["buildInfo"]["finished"]:
            self.built.append(message["buildInfo"]["path"])
            if message["buildInfo"].get("removed"):
                self.removed.append(message["buildInfo"]["path"])

    @property
    def end(self) -> str:
        """Type of the last message."""
        return self.messages[-1]["type"]


Answer = Callable[[str], Awaitable[tuple[str, str]] | tuple[str, str]]
"""Asked about a missing file: returns the choice, and the text for `load`."""


class CommandLine:
    """One user with one project and one current plan."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.branch = "main"
        self.user_id = self.token = self.org_id = self.org_name = self.project_id = self.plan_id = ""
        self._http = httpx.AsyncClient(base_url=url, headers={"Accept-Encoding": "gzip", "User-Agent": "Go-http-client/1.1"})
        # The original sends no such header, which the server takes as the mark of a browser.
        del self._http.headers["accept"]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    # Requests

    @property
    def _headers(self) -> dict[str, str]:
        headers = {"X-Client-Version": VERSION}
        if self.token:
            digest = hashlib.sha256(f"{self.org_name}||false||false".encode()).hexdigest()
            bearer = json.dumps({"token": self.token, "orgId": self.org_id, "hash": digest}, separators=(",", ":"))
            headers["Authorization"] = f"Bearer {base64.urlsafe_b64encode(bearer.encode()).decode()}"
        return headers

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Send a request and return the answer, or fail as the original does."""
        json_body: dict[str, Any] = {} if body is None else {"json": body}
        answer = await self._http.request(method, path, headers=self._headers, timeout=60, **json_body)
        if answer.status_code >= 400:
            _fail(answer.status_code, answer.headers.get("content-type", ""), answer.text)
        return answer

    async def read(self, method: str, path: str, shape: Any, body: Any = None) -> Any:
        """Send a request and return its JSON, held to a shape."""
        return check((await self.ask(method, path, body)).json(), shape, f"{method} {path}")

    @property
    def _here(self) -> str:
        return f"/plans/{self.plan_id}/{self.branch}"

    # Accounts

    async def sign_in(self) -> None:
        """Sign in as the local administrator, with an account and an organisation where there is none."""
        known = await self.read(
            "POST", "/accounts/email_verifications", {"hasAccount": bool, "isLocalMode": bool}, {"email": EMAIL, "userId": ""}
        )
        assert known["isLocalMode"]
        if known["hasAccount"]:
            body = {"email": EMAIL, "pin": "", "isSignInCode": False}
            session = await self.read("POST", "/accounts/sign_in", shapes.SESSION, body)
        else:
            body = {"email": EMAIL, "pin": "", "userName": USER_NAME}
            session = await self.read("POST", "/accounts", shapes.SESSION, body)
        self.user_id, self.token = session["userId"], session["token"]
        if session["orgs"]:
            self.org_id, self.org_name = session["orgs"][0]["id"], session["orgs"][0]["name"]
        else:
            made = await self.read("POST", "/orgs", {"id": shapes.UUID}, {"name": ORG_NAME, "autoAddDomainUsers": False})
            self.org_id, self.org_name = made["id"], ORG_NAME
        org = await self.read("GET", "/orgs/session", shapes.ORG)
        assert (org["id"], org["name"]) == (self.org_id, self.org_name)
        assert self.org_id in [one["id"] for one in await self.read("GET", "/orgs", [shapes.ORG])]

    # Plans

    async def new(self, name: str = "", **config: Any) -> str:
        """Make a plan, with a project where the folder has none, and load a map where the configuration wants it."""
        if not self.project_id:
            self.project_id = (await self.read("POST", "/projects", {"id": shapes.UUID}, {"name": self.folder.name}))["id"]
        made, defaults = await asyncio.gather(
            self.read("POST", f"/projects/{self.project_id}/plans", {"id": shapes.UUID, "name": str}, {"name": name}),
            self.read("GET", "/default_plan_config", {"config": shapes.PLAN_CONFIG}),
        )
        self.plan_id, self.branch = made["id"], "main"
        chosen = {**defaults["config"], **config, **({"autoMode": "custom"} if config else {})}
        if config:
            await self.ask("PUT", f"/plans/{self.plan_id}/config", {"config": chosen})
        assert (await self.settings())["configured"]
        await self.ask("PUT", f"/projects/{self.project_id}/set_plan", {"planId": self.plan_id})
        if chosen["autoContext"]:
            await self._load_map()
        return made["name"]

    async def plans(self) -> list[dict[str, Any]]:
        """List plans with their current branches."""
        found = await self.read("GET", f"/plans?projectId={self.project_id}", [shapes.PLAN])
        assert await self.read("GET", "/plans?", [shapes.PLAN]) == []
        branches = {plan["id"]: "main" for plan in found}
        path = f"/projects/{self.project_id}/plans/current_branches"
        current = await self.read("POST", path, Map(shapes.BRANCH), {"currentBranchByPlanId": branches})
        assert set(current) == set(branches)
        return found

    async def archived(self) -> list[str]:
        """List the names of archived plans."""
        return [plan["name"] for plan in await self.read("GET", f"/plans/archive?projectId={self.project_id}", [shapes.PLAN])]

    async def archive(self) -> None:
        """Archive the current plan."""
        await self.ask("PATCH", f"/plans/{self.plan_id}/archive")

    async def unarchive(self) -> None:
        """Take it out of the archive."""
        await self.ask("PATCH", f"/plans/{self.plan_id}/unarchive")

    async def rename(self, name: str) -> None:
        """Rename the current plan."""
        await self.ask("PATCH", f"/plans/{self.plan_id}/rename", {"name": name})

    async def plan(self) -> dict[str, Any]:
        """Read the current plan."""
        return await self.read("GET", f"/plans/{self.plan_id}", shapes.PLAN)

    async def delete_plan(self) -> None:
        """Delete the current plan."""
        await self.ask("DELETE", f"/plans/{self.plan_id}")

    # Context

    async def load(self, *paths: str, note: str = "", tree: str = "", piped: str = "") -> str:
        """Load files, a note, a directory tree or piped data."""
        await self.contexts()
        state = await self.state()
        items = [self._file(path) for path in paths]
        items += [_item("note", body=note)] if note else []
        items += [_item("piped data", body=piped)] if piped else []
        if tree:
            listing = "\n".join(sorted(self._paths()))
            items.append(_item("directory tree", name="cwd" if tree == "." else tree, file_path=tree, body=listing))
        loaded = await self.read("POST", f"{self._here}/context", shapes.LOADED, items)
        if any(path in state["planResult"]["fileResultsByPath"] for path in paths):
            await self.build()
        return loaded["msg"]

    async def contexts(self) -> list[dict[str, Any]]:
        """List the context."""
        return await self.read("GET", f"{self._here}/context", [shapes.CONTEXT])

    async def show(self, name: str) -> str:
        """Read the body of an item."""
        (item,) = [one for one in await self.contexts() if one["name"] == name]
        return (await self.read("GET", f"{self._here}/context/{item['id']}/body", {"body": str}))["body"]

    async def outdated(self) -> list[str]:
        """Return the files that are not what the context has."""
        found = []
        for item in await self.contexts():
            if item["contextType"] == "file":
                path = self.folder / item["file_path"]
                text = path.read_text() if path.exists() else None
                if text is None or hashlib.sha256(_lines(text).encode()).hexdigest() != item["sha"]:
                    found.append(item["file_path"])
        return found

    async def update(self) -> str:
        """Bring the context up to the files; those that vanished leave it."""
        stale, items = await self.outdated(), {item["file_path"]: item for item in await self.contexts()}
        await self.state()
        gone = [path for path in stale if not (self.folder / path).exists()]
        changes = {items[p]["id"]: {"body": self._text(p), **_NO_MAP, "removedMapPaths": None} for p in stale if p not in gone}
        messages = []
        if changes:
            messages.append((await self.read("PUT", f"{self._here}/context", shapes.LOADED, changes))["msg"])
        if gone:
            messages.append(await self.remove(*gone))
        return "\n".join(messages)

    async def remove(self, *names: str) -> str:
        """Remove items from the context, all where none is named."""
        body = {"ids": {item["id"]: True for item in await self.contexts() if not names or item["name"] in names}}
        shape = {"tokensRemoved": int, "totalTokens": int, "msg": str}
        return (await self.read("DELETE", f"{self._here}/context", shape, body))["msg"]

    async def clear(self) -> None:
        """Remove everything from the context."""
        await self.remove()

    async def _load_map(self) -> None:
        await self.contexts()
        cached = await self.read(
            "POST",
            f"{self._here}/load_cached_file_map",
            {"loadRes": shapes.Maybe(shapes.LOADED), "cachedByPath": Map(bool)},
            {"filePaths": ["."]},
        )
        if cached["cachedByPath"]:
            return
        inputs = {path: self._text(path) for path in self._paths()}
        made = await self.read("POST", "/file_map", {"mapBodies": Map(str)}, {"mapInputs": inputs})
        await self.state()
        item = _item("map", name="cwd", file_path=".")
        item |= {
            "inputShas": {path: hashlib.sha256(text.encode()).hexdigest() for path, text in inputs.items()},
            "inputTokens": {path: len(text) // 4 for path, text in inputs.items()},
            "inputSizes": {path: len(text) for path, text in inputs.items()},
            "mapBodies": made["mapBodies"],
        }
        assert "map" in (await self.read("POST", f"{self._here}/context", shapes.LOADED, [item]))["msg"]

    def _file(self, path: str) -> dict[str, Any]:
        return _item("file", name=path, file_path=path, body=self._text(path))

    def _text(self, path: str) -> str:
        return _lines((self.folder / path).read_text())

    def _paths(self) -> list[str]:
        return [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()]

    # Runs

    async def tell(self, prompt: str, *, missing: Answer | None = None, **options: Any) -> Seen:
        """Send a prompt and follow the run to its end."""
        return await self._tell({"prompt": prompt, **options}, missing)

    async def chat(self, prompt: str) -> Seen:
        """Talk without changing anything."""
        return await self._tell({"prompt": prompt, "isChatOnly": True, "buildMode": "none"}, None)

    async def go_on(self) -> Seen:
        """Go on with what was begun."""
        return await self._tell({"prompt": "", "isUserContinue": True}, None)

    async def start(self, prompt: str) -> None:
        """Send a prompt whose run goes on in the background."""
        await self._prepare()
        answer = await self.ask("POST", f"{self._here}/tell", await self._question({"prompt": prompt, "connectStream": False}))
        assert answer.content == b""

    async def build(self) -> Seen | str:
        """Build what is pending; what the server says where nothing is."""
        await self._prepare()
        body = {"connectStream": True, "projectPaths": self._projects(), "authVars": {}, "apiKeys": None, "openAIOrgId": ""}
        try:
            return await self._follow("PATCH", f"{self._here}/build", {**body, "sessionId": "s"}, None)
        except Exited:
            raise
        except Failed as error:
            return error.message

    async def connect(self, *, missing: Answer | None = None) -> Seen:
        """Follow a run that is active."""
        return await self._follow("PATCH", f"{self._here}/connect", None, missing)

    async def stop(self) -> None:
        """Stop the run."""
        await self.ask("DELETE", f"{self._here}/stop")

    async def running(self, *, recent: bool = False) -> dict[str, Any]:
        """List runs."""
        query = f"projectId={self.project_id}" + ("&recent=true" if recent else "")
        found = await self.read("GET", f"/plans/ps?{query}", shapes.RUNNING)
        assert all(len(stream) >= 4 for stream in found["streamIdByBranchId"].values())
        for branch in found["branches"]:
            assert branch["id"] in found["streamStartedAtByBranchId"]
            assert branch["planId"] in found["plansById"]
        return found

    async def _tell(self, options: dict[str, Any], missing: Answer | None) -> Seen:
        await self._prepare()
        return await self._follow("POST", f"{self._here}/tell", await self._question(options), missing)

    async def _prepare(self) -> None:
        """Do what the original does before it starts a run: it needs a pack that asks for no key."""
        await self.config()
        settings = await self.settings()
        await self.read("GET", "/org_user_config", shapes.ORG_USER_CONFIG)
        await self.update()
        _require_keyless(settings)

    async def _question(self, options: dict[str, Any]) -> dict[str, Any]:
        config = (await self.config())["config"]
        return {
            "buildMode": "auto" if config["autoBuild"] else "none",
            "connectStream": True,
            "autoContinue": config["autoContinue"],
            "isUserContinue": False,
            "isUserDebug": False,
            "isApplyDebug": False,
            "isChatOnly": False,
            "autoContext": config["autoContext"],
            "smartContext": config["smartContext"],
            "execEnabled": False,
            "osDetails": "Linux",
            "apiKeys": None,
            "openAIOrgId": "",
            "authVars": {},
            "projectPaths": self._projects(),
            "isImplementationOfChat": False,
            "isGitRepo": True,
            "sessionId": "s",
            **options,
        }

    def _projects(self) -> dict[str, bool]:
        return dict.fromkeys(self._paths(), True)

    async def _follow(self, method: str, path: str, body: Any, missing: Answer | None) -> Seen:
        seen = Seen()
        request = self._http.build_request(method, path, headers=self._headers, json=body, timeout=SILENCE_SECONDS)
        answer = await self._http.send(request, stream=True)
        try:
            if answer.status_code >= 400:
                text = (await answer.aread()).decode()
                _fail(answer.status_code, answer.headers.get("content-type", ""), text)
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            async for text in _frames(answer):
                if text == "heartbeat":
                    seen.heartbeats += 1
                    continue
                message = check(json.loads(text), shapes.STREAMED, text)
                await self._take(message, seen, missing, wrapped=False)
                if message["type"] in FINAL:
                    break
        finally:
            await answer.aclose()
        return seen

    async def _take(self, message: dict[str, Any], seen: Seen, missing: Answer | None, *, wrapped: bool) -> None:
        kind = message["type"]
        if kind == "multi":
            for inner in message["streamMessages"]:
                await self._take(inner, seen, missing, wrapped=True)
            return
        assert not (wrapped and kind in FINAL), "the end within a multi is not seen"
        seen.messages.append(message)
        seen.take(message)
        if kind == "promptMissingFile":
            await self._answer_missing(message["missingFilePath"], missing)
        elif kind == "loadContext":
            await self.contexts()
            items = [{**self._file(path), "autoLoaded": True} for path in message["loadContextFiles"]]
            await self.read("POST", f"{self._here}/auto_load_context", shapes.LOADED, items)

    async def _answer_missing(self, path: str, missing: Answer | None) -> None:
        assert missing is not None, f"asked about {path}"
        found = missing(path)
        choice, text = found if isinstance(found, tuple) else await found
        await self.ask("POST", f"{self._here}/respond_missing_file", {"choice": choice, "filePath": path, "body": text})

    async def build_status(self) -> dict[str, Any]:
        """Tell how the build stands."""
        shape = {"builtFiles": Map(bool), "isBuildingByPath": Map(bool)}
        return await self.read("GET", f"{self._here}/build_status", shape)

    # Changes

    async def state(self) -> dict[str, Any]:
        """Read the state of the branch."""
        return await self.read("GET", f"{self._here}/current_plan", shapes.STATE)

    async def diff(self, *, plain: bool = True) -> str:
        """Read the pending changes."""
        return (await self.ask("GET", f"{self._here}/diffs" + ("?plain=true" if plain else ""))).text

    async def apply(self) -> str:
        """Write the pending files, then have them marked as applied; returns the commit message."""
        await self.config()
        state = await self.state()
        # Who commits names the changes by these.
        described = {one["convoMessageId"] for one in state["convoMessageDescriptions"]}
        for results in state["planResult"]["fileResultsByPath"].values():
            assert described.issuperset(one["convoMessageId"] for one in results)
        for path, text in state["currentPlanFiles"]["files"].items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        for path in state["currentPlanFiles"]["removedByPath"]:
            (self.folder / path).unlink()
        await self.settings()
        body = {"authVars": {}, "sessionId": "s", "apiKeys": None, "openAIBase": "", "openAIOrgId": ""}
        return (await self.ask("PATCH", f"{self._here}/apply", body)).text

    async def reject(self, *paths: str) -> None:
        """Reject pending changes of some files, or all."""
        assert (await self.state())["currentPlanFiles"]["files"] is not None
        if paths:
            await self.ask("PATCH", f"{self._here}/reject_files", {"paths": list(paths)})
        else:
            await self.ask("PATCH", f"{self._here}/reject_all")

    # History

    async def log(self) -> list[tuple[str, str]]:
        """Return the entries, newest first: sha and message."""
        found = await self.read("GET", f"{self._here}/logs", {"shas": [str], "body": str})
        entries = []
        for chunk in found["body"].split("\n\n") if found["body"] else []:
            header, _, message = chunk.partition("\n")
            matched = HEADER.fullmatch(header)
            assert matched, f"no header of an entry: {header!r}"
            entries.append((matched["sha"], message))
        assert [sha for sha, _ in entries] == found["shas"]
        assert all(re.fullmatch(r"[0-9a-f]{7,40}", sha) for sha in found["shas"])
        assert len(set(found["shas"])) == len(found["shas"])
        return entries

    async def rewind(self, sha: str) -> str:
        """Go back to an entry; returns the entry that is now the newest."""
        await self.state()
        await self.read("GET", f"/plans/{self.plan_id}/current_plan/{sha}", shapes.STATE)
        shape = {"latestSha": str, "latestCommit": str}
        back = await self.read("PATCH", f"{self._here}/rewind", shape, {"sha": sha})
        assert back["latestSha"] == sha
        return back["latestCommit"]

    async def conversation(self) -> list[dict[str, Any]]:
        """Read the messages."""
        return await self.read("GET", f"{self._here}/convo", [shapes.MESSAGE])

    async def summary(self) -> str:
        """Read the summary of the conversation."""
        return (await self.ask("GET", f"{self._here}/status")).text

    # Branches

    async def branches(self) -> list[str]:
        """List the names of branches."""
        return [one["name"] for one in await self.read("GET", f"/plans/{self.plan_id}/branches", [shapes.BRANCH])]

    async def checkout(self, name: str) -> None:
        """Go to a branch, which is made where there is none."""
        if name not in await self.branches():
            await self.ask("POST", f"{self._here}/branches", {"name": name})
        self.branch = name

    async def delete_branch(self, name: str) -> None:
        """Delete a branch."""
        assert name in await self.branches()
        await self.ask("DELETE", f"/plans/{self.plan_id}/branches/{name}")

    # Models and configuration

    async def settings(self) -> dict[str, Any]:
        """Read which models the branch uses."""
        found = await self.read("GET", f"{self._here}/settings", shapes.SETTINGS)
        assert found["configured"]
        return found

    async def set_model(self, pack: str, *, default: bool = False) -> str:
        """Choose a pack by its name."""
        path = "/default_settings" if default else f"{self._here}/settings"
        return (await self.read("PUT", path, {"msg": str}, {"modelPackName": pack, "modelPack": None}))["msg"]

    async def config(self) -> dict[str, Any]:
        """Read the configuration of the plan."""
        return await self.read("GET", f"/plans/{self.plan_id}/config", {"config": shapes.PLAN_CONFIG})

    async def set_config(self, **values: Any) -> None:
        """Change the configuration of the plan."""
        config = (await self.config())["config"]
        await self.ask("PUT", f"/plans/{self.plan_id}/config", {"config": {**config, **values, "autoMode": "custom"}})

    async def custom(self) -> tuple[list[Any], list[Any], list[Any]]:
        """List custom models, providers and packs."""
        return (
            await self.read("GET", "/custom_models", [shapes.MODEL]),
            await self.read("GET", "/custom_providers", [shapes.PROVIDER]),
            await self.read("GET", "/model_sets", [shapes.PACK]),
        )


_NO_MAP: dict[str, Any] = {"inputShas": None, "inputTokens": None, "inputSizes": None, "mapBodies": None}


def _item(kind: str, **members: Any) -> dict[str, Any]:
    """Return an item to load, with every field that the original sends."""
    empty = dict.fromkeys(("name", "url", "file_path", "body", "imageDetail", "openAIBase", "openAIOrgId", "sessionId"), "")
    return {
        "contextType": kind,
        **empty,
        "forceSkipIgnore": False,
        "autoLoaded": False,
        **_NO_MAP,
        "apiKeys": None,
        "authVars": None,
        **members,
    }


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _require_keyless(settings: dict[str, Any]) -> None:
    """Hold a pack to what the original asks before it starts a run without a key."""
    packs = {pack["name"]: pack for pack in settings["customModelPacks"]}
    pack = settings["modelPack"] or packs[settings["modelPackName"]]
    providers = {provider["name"]: provider for provider in settings["customProviders"]}
    for role in ("planner", "planSummary", "builder", "namer", "commitMsg", "execStatus"):
        model = settings["customModelsById"][pack[role]["modelId"]]
        assert any(providers[uses["customProvider"]].get("skipAuth") for uses in model["providers"])
        assert settings["usesCustomProviderByModelId"][model["modelId"]]


def _fail(status: int, content_type: str, text: str) -> None:
    if content_type != "application/json":
        raise Failed(status, text.strip())
    error = json.loads(text)
    assert error["type"] in ("invalid_token", "auth_outdated", "other"), error
    raise Exited(status, error["msg"])


async def _frames(answer: httpx.Response) -> AsyncIterator[str]:
    rest = ""
    async for chunk in answer.aiter_text():
        *whole, rest = (rest + chunk).split(MARK)
        for text in whole:
            yield text
