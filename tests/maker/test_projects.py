"""Projects over every door that has them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.live.events import Policy
from core.maker.events import ProjectDeleted, ProjectUpdated, project_topic
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.databases import database_url, postgres
from tests.doors import Refused
from tests.maker.making import attach, member, project

__all__ = ["database_url", "postgres"]

MEMBERS = {
    "id", "ownerId", "owner", "name", "slug", "description", "boardType", "theme", "visibility", "tags", "coverUrl",
    "boardCount", "collaboratorCount", "likes", "role", "publishedAt", "createdAt", "updatedAt",
}  # fmt: skip


async def test_a_new_project_is_private_and_has_every_member(busbar: Running, alice: Person) -> None:
    answer = await busbar.http(alice.session).post("/api/projects", json={"name": "Weather station"})
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/projects/{body['id']}"
    assert set(body) == MEMBERS
    assert body["owner"] == {"id": alice.id, "username": "alice", "displayName": "alice"}
    assert (body["slug"], body["boardType"], body["theme"]) == ("weather-station", "esp32", "light")
    assert (body["visibility"], body["role"], body["tags"], body["coverUrl"]) == ("private", "owner", [], None)
    assert (body["boardCount"], body["collaboratorCount"], body["likes"], body["publishedAt"]) == (0, 0, 0, None)
    assert (await busbar.http(alice.session).get(f"/api/projects/{body['id']}")).json() == body


async def test_slugs_differ_among_the_projects_of_one_owner(busbar: Running, alice: Person, eve: Person) -> None:
    slugs = [(await project(busbar, alice, name))["slug"] for name in ("Größe 1!", "größe 1", "Größe-1", "大", "?")]
    assert slugs == ["groe-1", "groe-1-2", "groe-1-3", "project", "project-2"]
    assert (await project(busbar, eve, "größe 1"))["slug"] == "groe-1"


async def test_tags_are_lower_case_and_each_there_once(busbar: Running, alice: Person) -> None:
    made = await project(busbar, alice, tags=["IoT", " iot ", "Garden", "größe"])
    assert made["tags"] == ["iot", "garden", "größe"]
    http = busbar.http(alice.session)
    for tags in (["x"] * 11, ["a" * 33], [" "], [""]):
        answer = await http.patch(f"/api/projects/{made['id']}", json={"tags": tags})
        assert (answer.status_code, answer.json()["error"][:4]) == (400, "tags")
    assert (await http.patch(f"/api/projects/{made['id']}", json={"tags": []})).json()["tags"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "n" * 121}, "name"),
        ({"name": "p", "description": "d" * 5001}, "description"),
        ({"name": "p", "theme": "blue"}, "theme"),
        ({"name": "p", "visibility": "secret"}, "visibility"),
        ({"name": "p", "coverUrl": "javascript:alert(1)"}, "coverUrl"),
        ({"name": 5}, "name"),
    ],
)
async def test_a_bad_field_is_named_and_nothing_is_made(busbar: Running, alice: Person, body: Any, field: str) -> None:
    http = busbar.http(alice.session)
    answer = await http.post("/api/projects", json=body)
    assert (answer.status_code, answer.json()["error"].split(":")[0]) == (400, field)
    assert (await http.get("/api/projects")).json() == {"projects": [], "nextCursor": None}


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_project_is_changed_at_each_door(busbar: Running, alice: Person, door: str) -> None:
    made = await project(busbar, alice, coverUrl="https://example.com/a.png")
    client = busbar.client(door, alice.session)
    changed = await client.call("ProjectService.UpdateProject", project_id=made["id"], name="Barometer", theme="dark")
    assert (changed.name, changed.theme, changed.slug) == ("Barometer", "dark", "weather")
    assert changed.cover_url == "https://example.com/a.png"


async def test_null_clears_what_may_be_empty_and_is_refused_elsewhere(busbar: Running, alice: Person) -> None:
    made = await project(busbar, alice, coverUrl="https://example.com/a.png")
    http, path = busbar.http(alice.session), f"/api/projects/{made['id']}"
    assert (await http.patch(path, json={"coverUrl": None})).json()["coverUrl"] is None
    answer = await http.patch(path, json={"name": None})
    assert (answer.status_code, answer.json()) == (400, {"error": "name: must not be null"})


async def test_naming_no_field_leaves_everything_as_it_was(busbar: Running, alice: Person) -> None:
    made = await project(busbar, alice)
    http, path = busbar.http(alice.session), f"/api/projects/{made['id']}"
    busbar.clock.forward(seconds=60)
    for body in ({}, {"name": made["name"]}, {"unknown": 1}):
        answer = await http.patch(path, json=body)
        assert (answer.status_code, answer.json()) == (200, made)
    assert (await http.patch(path, json={"name": "Other"})).json()["updatedAt"] > made["updatedAt"]


async def test_the_time_of_publication_is_set_once(busbar: Running, alice: Person) -> None:
    http = busbar.http(alice.session)
    made = await project(busbar, alice)
    path = f"/api/projects/{made['id']}"
    published = (await http.post(f"{path}/publish")).json()
    assert published["visibility"] == "public"
    assert published["publishedAt"] is not None
    busbar.clock.forward(seconds=60)
    assert (await http.post(f"{path}/publish")).json() == published
    unpublished = (await http.post(f"{path}/unpublish")).json()
    assert (unpublished["visibility"], unpublished["publishedAt"]) == ("private", published["publishedAt"])
    again = (await http.patch(path, json={"visibility": "public"})).json()
    assert (again["visibility"], again["publishedAt"]) == ("public", published["publishedAt"])
    assert (await project(busbar, alice, visibility="public"))["publishedAt"] is not None
    assert (await project(busbar, alice, visibility="unlisted"))["publishedAt"] is None


async def test_of_many_who_publish_at_once_all_read_one_time(start: Start, database_url: str) -> None:
    busbar = await start(database=database_url)
    alice = await busbar.person("alice")
    made = await project(busbar, alice)
    http, path = busbar.http(alice.session), f"/api/projects/{made['id']}"
    answers = await asyncio.gather(*(http.post(f"{path}/publish") for _ in range(6)))
    times = {answer.json()["publishedAt"] for answer in answers}
    assert times == {(await http.get(path)).json()["publishedAt"]}


async def test_only_the_owner_changes_the_visibility(busbar: Running, alice: Person) -> None:
    made = await project(busbar, alice)
    http = busbar.http((await member(busbar, alice, made["id"], "edith", "editor")).session)
    path = f"/api/projects/{made['id']}"
    assert (await http.patch(path, json={"visibility": "public"})).status_code == 403
    assert (await http.post(f"{path}/publish")).status_code == 403
    assert (await http.post(f"{path}/unpublish")).status_code == 403
    kept = await http.patch(path, json={"name": "By edith", "visibility": "private"})
    assert (kept.status_code, kept.json()["name"], kept.json()["role"]) == (200, "By edith", "editor")


async def test_a_project_is_deleted_by_its_owner_and_boards_survive(busbar: Running, alice: Person, bench: Any) -> None:
    made = await project(busbar, alice)
    editor = await member(busbar, alice, made["id"], "edith", "editor")
    await attach(busbar, alice, made["id"], bench.id)
    path, http = f"/api/projects/{made['id']}", busbar.http(alice.session)
    assert (await http.put(f"{path}/wiring", json={"data": {"a": 1}})).status_code == 200
    assert (await http.put(f"/api/public/projects/{made['id']}/like")).status_code == 200
    assert (await busbar.http(editor.session).delete(path)).status_code == 403
    assert (await http.delete(path)).json() == {"ok": True}
    assert (await http.delete(path)).status_code == 404
    assert (await http.get(path)).json() == {"error": f"project {made['id']} not found"}
    assert (await http.get(f"/api/boards/{bench.id}")).json()["projectIds"] == []
    assert (await busbar.http(editor.session).get(f"/api/boards/{bench.id}")).status_code == 404


async def test_what_happens_to_a_project_is_told_live(busbar: Running, alice: Person) -> None:
    made = await project(busbar, alice)
    http, path = busbar.http(alice.session), f"/api/projects/{made['id']}"
    async with busbar.app.bus.subscribe(project_topic(made["id"]), policy=Policy.LAGGED, size=10) as events:
        await http.patch(path, json={"name": "Other"})
        await http.patch(path, json={"name": "Other"})
        await http.delete(path)
        seen = [event for _, event in events.drain()]
    assert seen == [ProjectUpdated(alice.id), ProjectDeleted()]


async def test_lists_hold_what_is_owned_or_shared(busbar: Running, alice: Person, eve: Person) -> None:
    mine, shared = await project(busbar, alice, "Mine"), await project(busbar, eve, "Eve's")
    await project(busbar, eve, "Public", visibility="public")
    await busbar.http(eve.session).post(f"/api/projects/{shared['id']}/collaborators", json={"username": "Alice"})
    busbar.clock.forward(seconds=60)
    await busbar.http(alice.session).patch(f"/api/projects/{mine['id']}", json={"name": "Mine too"})

    async def listed(query: str = "") -> list[tuple[str, str]]:
        found = (await busbar.http(alice.session).get(f"/api/projects{query}")).json()["projects"]
        return [(one["name"], one["role"]) for one in found]

    assert await listed() == [("Mine too", "owner")]
    assert await listed("?scope=owned") == [("Mine too", "owner")]
    assert await listed("?scope=shared") == [("Eve's", "editor")]
    assert await listed("?scope=all") == [("Mine too", "owner"), ("Eve's", "editor")]
    assert (await busbar.http(alice.session).get("/api/projects?scope=theirs")).status_code == 400


async def test_words_are_found_in_name_description_and_tags(busbar: Running, alice: Person) -> None:
    await project(busbar, alice, "Weather", description="Rain 100% of the time", tags=["Garden"])
    await project(busbar, alice, "Door_bell")

    async def found(words: str) -> list[str]:
        answer = await busbar.http(alice.session).get("/api/projects", params={"q": words})
        return [one["name"] for one in answer.json()["projects"]]

    assert await found("WEATH") == ["Weather"]
    assert await found("garden rain") == ["Weather"]
    assert await found("garden bell") == []
    assert await found("100%") == ["Weather"]
    assert await found("%") == ["Weather"]
    assert await found("_") == ["Door_bell"]
    assert await found(" ") == ["Door_bell", "Weather"]


async def test_pages_hold_every_project_once(busbar: Running, alice: Person) -> None:
    made = {(await project(busbar, alice, f"p{number}"))["id"] for number in range(5)}
    http, seen, cursor = busbar.http(alice.session), list[str](), ""
    while True:
        page = (await http.get("/api/projects", params={"limit": 2, "cursor": cursor})).json()
        seen += [one["id"] for one in page["projects"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert (len(seen), set(seen)) == (5, made)
    for bad in ("nonsense", "WzFd", "WyJwb3B1bGFyIiwgMSwgMSwgIngiXQ"):
        answer = await http.get("/api/projects", params={"cursor": bad})
        assert (answer.status_code, answer.json()) == (400, {"error": "invalid cursor"})


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_projects_are_listed_at_every_door(busbar: Running, alice: Person, door: str) -> None:
    made = await project(busbar, alice)
    credential = await busbar.key(alice, CredentialKind.AGENT_KEY, "projects:read") if door == "mcp" else alice.session
    listed = await busbar.client(door, credential).call("ProjectService.ListProjects", limit=10)
    assert [(one.id, one.name, one.visibility, one.role) for one in listed.projects] == [
        (made["id"], "Weather", "private", "owner")
    ]


async def test_an_agent_sees_the_six_members_of_its_tool(busbar: Running, alice: Person) -> None:
    await project(busbar, alice)
    agent = busbar.client("mcp", await busbar.key(alice, CredentialKind.AGENT_KEY, "projects:read"))
    result = await agent.method("tools/call", {"name": "plynx_list_projects", "arguments": {}})
    (listed,) = result["structuredContent"]["projects"]
    assert set(listed) == {"id", "name", "visibility", "role", "boardCount", "updatedAt"}
    assert "plynx_list_projects" not in str(
        await busbar.client("mcp", await busbar.key(alice, CredentialKind.AGENT_KEY, "pins:read")).method("tools/list")
    )


async def test_an_account_holds_so_many_projects_and_no_more(start: Start, database_url: str) -> None:
    busbar = await start(quotas={"projects": 3}, database=database_url)
    alice = await busbar.person("alice")
    http = busbar.http(alice.session)
    answers = await asyncio.gather(*(http.post("/api/projects", json={"name": "Same"}) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 201, 409, 409, 409]
    listed = (await http.get("/api/projects")).json()["projects"]
    assert {one["slug"] for one in listed} == {"same", "same-2", "same-3"}


async def test_a_request_sent_again_makes_no_second_project(busbar: Running, alice: Person) -> None:
    http = busbar.http(alice.session, **{"Idempotency-Key": "k1"})
    first, again = [await http.post("/api/projects", json={"name": "Once"}) for _ in range(2)]
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    other = await http.post("/api/projects", json={"name": "Twice"})
    assert other.status_code == 409
    assert len((await http.get("/api/projects")).json()["projects"]) == 1


async def test_a_template_gives_its_documents_and_the_fields_left_out(busbar: Running, alice: Person) -> None:
    made = await project(busbar, alice, description="Rain", boardType="uno", tags=["a"], visibility="public")
    http = busbar.http(alice.session)
    await http.put(f"/api/projects/{made['id']}/wiring", json={"data": {"wires": 2}})
    await http.put(f"/api/projects/{made['id']}/firmware", json={"source": "void loop() {}"})
    await http.put(f"/api/projects/{made['id']}/widgets", json={"widgets": [{"id": "w1", "type": "LED"}]})
    copy = await project(busbar, alice, "Copy", templateProjectId=made["id"], theme="dark", description="Sun")
    assert (copy["description"], copy["boardType"], copy["tags"], copy["theme"]) == ("Sun", "uno", ["a"], "dark")
    assert (copy["visibility"], copy["publishedAt"], copy["likes"]) == ("private", None, 0)
    path = f"/api/projects/{copy['id']}"
    wiring = (await http.get(f"{path}/wiring")).json()
    assert (wiring["data"], wiring["revision"], wiring["projectId"]) == ({"wires": 2}, 1, copy["id"])
    assert (await http.get(f"{path}/firmware")).json()["source"] == "void loop() {}"
    assert [one["id"] for one in (await http.get(f"{path}/widgets")).json()["widgets"]] == ["w1"]


async def test_a_template_of_somebody_else_is_copied_without_its_firmware(busbar: Running, alice: Person, eve: Person) -> None:
    made = await project(busbar, alice, visibility="unlisted")
    http = busbar.http(alice.session)
    await http.put(f"/api/projects/{made['id']}/wiring", json={"data": {"wires": 2}})
    await http.put(f"/api/projects/{made['id']}/firmware", json={"source": "const char *password;"})
    copy = await project(busbar, eve, "Copy", templateProjectId=made["id"])
    assert copy["ownerId"] == eve.id
    hers = busbar.http(eve.session)
    assert (await hers.get(f"/api/projects/{copy['id']}/wiring")).json()["data"] == {"wires": 2}
    assert (await hers.get(f"/api/projects/{copy['id']}/firmware")).status_code == 404
    await http.post(f"/api/projects/{made['id']}/unpublish")
    answer = await hers.post("/api/projects", json={"name": "Copy", "templateProjectId": made["id"]})
    assert (answer.status_code, answer.json()) == (404, {"error": f"project {made['id']} not found"})
    assert len((await hers.get("/api/projects")).json()["projects"]) == 1


async def test_a_user_likes_a_project_once(start: Start, database_url: str) -> None:
    busbar = await start(database=database_url)
    alice, eve = await busbar.person("alice"), await busbar.person("eve")
    made = await project(busbar, alice, visibility="public")
    path = f"/api/public/projects/{made['id']}/like"
    answers = await asyncio.gather(*(busbar.http(one.session).put(path) for one in (alice, eve) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await busbar.http(eve.session).put(path)).json() == {"ok": True, "likes": 2}
    assert (await busbar.http(eve.session).get(f"/api/projects/{made['id']}")).json()["likes"] == 2
    answers = await asyncio.gather(*(busbar.http(eve.session).delete(path) for _ in range(4)))
    assert {answer.json()["likes"] for answer in answers} == {1}
    assert (await busbar.http(eve.session).put("/api/public/projects/nothing/like")).status_code == 404


async def test_two_who_delete_one_project_delete_it_once(start: Start, database_url: str) -> None:
    busbar = await start(database=database_url)
    alice = await busbar.person("alice")
    made = await project(busbar, alice)
    http = busbar.http(alice.session)
    answers = await asyncio.gather(*(http.delete(f"/api/projects/{made['id']}") for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 404, 404]


OPERATIONS: list[tuple[str, dict[str, Any]]] = [
    ("ProjectService.GetProject", {}),
    ("ProjectService.ListProjectBoards", {}),
    ("ProjectService.GetProjectPins", {}),
    ("CollaboratorService.ListCollaborators", {}),
    ("ProjectService.UpdateProject", {"name": "Changed"}),
    ("ProjectService.AttachBoard", {"board_id": "brd-x"}),
    ("ProjectService.DetachBoard", {"board_id": "brd-x"}),
    ("ProjectService.PublishProject", {}),
    ("ProjectService.UnpublishProject", {}),
    ("CollaboratorService.AddCollaborator", {"username": "nobody"}),
    ("CollaboratorService.UpdateCollaborator", {"user_id": "nobody", "role": "viewer"}),
    ("CollaboratorService.RemoveCollaborator", {"user_id": "nobody"}),
    ("ProjectService.DeleteProject", {}),
]
"""What is done to a project, by growing rights."""

GONE, DENIED = "NOT_FOUND", "PERMISSION_DENIED"
MATRIX: dict[tuple[str, str], list[str]] = {
    ("stranger", "private"): [GONE] * 13,
    ("stranger", "unlisted"): ["OK", *[DENIED] * 12],
    ("stranger", "public"): ["OK", *[DENIED] * 12],
    ("viewer", "private"): [*["OK"] * 4, *[DENIED] * 9],
    ("editor", "private"): [*["OK"] * 5, GONE, "OK", *[DENIED] * 6],
    ("owner", "private"): [*["OK"] * 5, GONE, *["OK"] * 3, GONE, GONE, GONE, "OK"],
}
"""What becomes of each operation. NOT_FOUND beyond `private` strangers is that of the board or user in the request."""


@pytest.mark.parametrize("door", ["grpc", "rest"])
@pytest.mark.parametrize(("who", "visibility"), list(MATRIX))
async def test_everybody_may_do_what_their_role_allows(
    busbar: Running, alice: Person, eve: Person, who: str, visibility: str, door: str
) -> None:
    made = await project(busbar, alice, visibility=visibility)
    people = {"owner": alice, "stranger": eve}
    person = people.get(who) or await member(busbar, alice, made["id"], "member", who)
    client, codes = busbar.client(door, person.session), list[str]()
    for name, fields in OPERATIONS:
        try:
            await client.call(name, project_id=made["id"], **fields)
            codes.append("OK")
        except Refused as refused:
            codes.append(refused.code)
    assert codes == MATRIX[who, visibility]


async def test_a_stranger_learns_nothing_of_a_private_project(busbar: Running, alice: Person, eve: Person) -> None:
    made = await project(busbar, alice)
    http = busbar.http(eve.session)
    for path in ("", "/boards", "/pins", "/collaborators", "/wiring", "/firmware", "/widgets"):
        real = await http.get(f"/api/projects/{made['id']}{path}")
        made_up = await http.get(f"/api/projects/nothing{path}")
        assert real.status_code == made_up.status_code == 404
        assert real.json()["error"] == made_up.json()["error"].replace("nothing", made["id"])


async def test_an_agent_acts_with_the_rights_of_its_user(busbar: Running, alice: Person, eve: Person) -> None:
    made = await project(busbar, alice)
    keys = busbar.client("grpc", alice.session)
    reading, writing = [
        (await keys.call("AgentKeyService.CreateAgentKey", name="k", scopes=[scope])).key
        for scope in ("projects:read", "projects:write")
    ]
    foreign = await busbar.key(eve, CredentialKind.AGENT_KEY)
    read = await busbar.client("grpc", reading).call("ProjectService.GetProject", project_id=made["id"])
    assert read.role == "owner"
    with pytest.raises(Refused, match="projects:write"):
        await busbar.client("grpc", reading).call("ProjectService.UpdateProject", project_id=made["id"], name="x")
    changed = await busbar.client("grpc", writing).call("ProjectService.UpdateProject", project_id=made["id"], name="x")
    assert changed.name == "x"
    with pytest.raises(Refused, match="not found"):
        await busbar.client("grpc", foreign).call("ProjectService.GetProject", project_id=made["id"])
    assert (await busbar.http(reading).get(f"/api/projects/{made['id']}")).status_code == 401
