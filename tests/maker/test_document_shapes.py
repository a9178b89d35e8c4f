"""How documents stand in the description of the REST interface and among the tools of agents."""

from __future__ import annotations

from typing import Any

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running


async def test_the_description_shows_documents_as_clients_send_them(busbar: Running) -> None:
    document: dict[str, Any] = (await busbar.http().get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert schemas["DesignDocument"]["properties"]["data"]["type"] == "object"
    widget = schemas["PersistedWidget"]
    assert widget["additionalProperties"] is True
    assert "others" not in widget["properties"]
    saved = document["paths"]["/api/projects/{projectId}/widgets"]["put"]
    shapes = saved["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert [shape.get("type", "object") for shape in shapes] == ["object", "array"]
    wiring = document["paths"]["/api/projects/{projectId}/wiring"]["put"]
    assert {"409", "412", "413"} <= wiring["responses"].keys()
    assert "If-Match" in {parameter["name"] for parameter in wiring["parameters"]}
    history = document["paths"]["/api/projects/{projectId}/documents/{kind}/revisions"]["get"]
    assert history["x-plynx-extension"] is True


async def test_agents_find_the_documents_among_the_tools_of_the_maker(busbar: Running, alice: Person) -> None:
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, "projects:read", "projects:write")
    listed = await busbar.client("mcp", key).method("tools/list")
    tools = {tool["name"]: tool for tool in listed["tools"]}
    read, save = tools["plynx_read_document"], tools["plynx_save_document"]
    assert (read["annotations"]["readOnlyHint"], save["annotations"]["readOnlyHint"]) == (True, False)
    assert save["annotations"]["destructiveHint"] is False
    assert save["inputSchema"]["properties"]["content"]["type"] == "object"
    assert set(save["inputSchema"]["required"]) == {"projectId", "kind", "content"}
    assert read["outputSchema"]["properties"]["content"]["type"] == "object"
