"""The document: complete, valid, and true to the protos."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from adapters.rest.openapi import build_document
from adapters.rest.openapi_schema import numbers_up_to
from core.kernel.rpc import verb_and_path
from gen.busbar.api.v1.options_pb import Surface
from tests.rest.fakes import World, client, fake_rpcs, rest_app
from tests.rest.protos import serve, service

METHODS = {"get", "put", "post", "patch", "delete"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return build_document(fake_rpcs(World()))


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(m, path): op for path, item in document["paths"].items() for m, op in item.items()}


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_every_json_body_and_answer_has_an_example_that_fits_it(document: dict[str, Any]) -> None:
    for where, operation in operations(document).items():
        parts = {"body": operation.get("requestBody", {}), **operation["responses"]}
        for code, part in parts.items():
            media = part.get("content", {}).get("application/json")
            if media is None or where[1].endswith("openapi.json"):
                continue
            assert "example" in media, (where, code)
            schema = {**media["schema"], "components": document["components"]}
            validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
            assert [error.message for error in validator.iter_errors(media["example"])] == [], (where, code)


def test_examples_of_refusals_are_those_of_the_surface(document: dict[str, Any]) -> None:
    def refusal(method: str, path: str, code: str) -> Any:
        return document["paths"][path][method]["responses"][code]["content"]["application/json"]["example"]

    assert refusal("get", "/api/boards", "401") == {"error": "authentication required"}
    assert refusal("get", "/api/v1/telemetry", "401") == {"error": "UNAUTHORIZED", "message": "authentication required"}


def test_every_rule_of_every_rpc_is_described_once(document: dict[str, Any]) -> None:
    rules = [verb_and_path(rule) for rpc in fake_rpcs(World()) for rule in rpc.http]
    expected = sorted((method.lower(), re.sub(r"\{[^}]*\}", "{}", path)) for method, path in rules)
    documents = {"/openapi.json", "/api/openapi.json", "/api/openapi.yaml"}
    shapes = [(m, re.sub(r"\{[^}]*\}", "{}", p)) for m, p in operations(document) if p not in documents]
    assert sorted(shapes) == expected
    assert documents <= document["paths"].keys()


def test_operation_ids_are_unique_and_every_operation_explains_itself(document: dict[str, Any]) -> None:
    found = operations(document).values()
    ids = [operation["operationId"] for operation in found]
    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] and operation["tags"] for operation in found)


def test_aliases_of_methods_are_not_shown(document: dict[str, Any]) -> None:
    assert set(document["paths"]["/api/ha/board/{boardId}/pin/{pin}"]) == {"get", "post"}


def test_names_follow_the_surface(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {"boardId", "pinIndex", "updatedAt"} <= schemas["Pin"]["properties"].keys()
    assert {"source_id", "persistedCount"} <= schemas["IngestResponse"]["properties"].keys()
    assert "is_on" in schemas["HomePin"]["properties"]


def test_answers_say_what_is_always_there_and_what_may_be_null(document: dict[str, Any]) -> None:
    pin = document["components"]["schemas"]["Pin"]
    assert pin["required"] == list(pin["properties"])
    assert pin["properties"]["updatedBy"]["type"] == ["string", "null"]
    assert pin["properties"]["pinIndex"] == {
        "type": "integer",
        "format": "int32",
        "readOnly": True,
        "description": "Index of the virtual pin, 0 to 255.",
    }
    assert "type" not in pin["properties"]["value"]
    ingest = document["components"]["schemas"]["IngestResponse"]
    assert "source_id" not in ingest["required"]
    assert ingest["properties"]["source_id"]["type"] == "string"


def test_requests_carry_the_rules_of_their_fields(document: dict[str, Any]) -> None:
    register = document["components"]["schemas"]["RegisterRequest"]
    assert register["required"] == ["email", "password"]
    assert register["properties"]["email"]["maxLength"] == 254
    assert register["properties"]["email"]["pattern"] == r"^[^@\s]+@[^@\s]+$"
    board = document["components"]["schemas"]["CreateBoardRequest"]["properties"]
    assert board["connectionType"]["enum"] == ["wifi", "ethernet", "gsm", "usb", "ble", None]
    points = document["components"]["schemas"]["IngestRequest"]["properties"]["points"]
    assert points["maxItems"] == 10_000
    scopes = document["components"]["schemas"]["CreateAgentKeyRequest"]["properties"]["scopes"]
    assert (scopes["uniqueItems"], "pins:write" in scopes["items"]["enum"]) == (True, True)


@pytest.mark.parametrize("most", [0, 7, 10, 99, 100, 199, 255, 1000])
def test_a_number_behind_a_letter_has_a_pattern_with_its_bound(most: int) -> None:
    pattern = re.compile(numbers_up_to(most))
    assert [number for number in range(3 * most + 20) if pattern.fullmatch(str(number))] == list(range(most + 1))


def test_null_clears_only_what_a_thing_may_lack(document: dict[str, Any]) -> None:
    patch = document["paths"]["/api/boards/{boardId}"]["patch"]["requestBody"]["content"]["application/json"]["schema"]
    board = document["components"]["schemas"][patch["$ref"].rpartition("/")[2]]["properties"]
    assert None not in board["connectionType"]["enum"]


def test_what_the_path_holds_is_not_in_the_body(document: dict[str, Any]) -> None:
    operation = document["paths"]["/api/boards/{boardId}/pins/{pinIndex}"]["put"]
    assert [p["name"] for p in operation["parameters"] if p["in"] == "path"] == ["boardId", "pinIndex"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["anyOf"][1] == {"type": ["string", "number", "boolean", "null"]}
    body = document["components"]["schemas"][schema["anyOf"][0]["$ref"].rpartition("/")[2]]
    assert set(body["properties"]) == {"value", "label"}
    patch = document["paths"]["/api/boards/{boardId}"]["patch"]["requestBody"]["content"]["application/json"]["schema"]
    assert "updateMask" not in document["components"]["schemas"][patch["$ref"].rpartition("/")[2]]["properties"]


def test_queries_are_parameters(document: dict[str, Any]) -> None:
    parameters = {p["name"]: p for p in document["paths"]["/api/v1/telemetry/series"]["get"]["parameters"]}
    assert (parameters["source"]["required"], parameters["points"]["schema"]["maximum"]) == (True, 5000)


def test_responses_have_their_status_and_the_errors_of_their_dialect(document: dict[str, Any]) -> None:
    register = document["paths"]["/api/auth/register"]["post"]["responses"]
    assert {"201", "400", "409", "413", "415", "429", "default"} == register.keys()
    assert register["409"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
    ingest = document["paths"]["/ingest"]["post"]["responses"]
    assert {"200", "400", "401", "403", "413", "default"} == ingest.keys()
    assert ingest["400"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/TelemetryError"}


def test_every_operation_says_which_credentials_it_takes(document: dict[str, Any]) -> None:
    paths = document["paths"]
    assert paths["/api/boards"]["get"]["security"] == [{"sessionCookie": []}, {"bearerSession": []}]
    assert paths["/api/ha/boards"]["get"]["security"] == [{"bearerMCP": []}, {"bearerHA": []}]
    assert {"apiKey": []} in paths["/ingest"]["post"]["security"]
    assert paths["/api/auth/login"]["post"]["security"] == []
    assert {} in paths["/api/auth/session"]["get"]["security"]


def test_streams_say_both_of_their_forms(document: dict[str, Any]) -> None:
    watch = document["paths"]["/api/boards/{boardId}/pins:watch"]["get"]
    content = watch["responses"]["200"]["content"]
    assert set(content) == {"application/x-ndjson", "text/event-stream"}
    data = content["text/event-stream"]["schema"]["properties"]["data"]
    assert (data["type"], data["contentSchema"]) == ("string", content["application/x-ndjson"]["schema"])
    assert "server-sent events" in watch["description"]


def test_extensions_and_surfaces_are_marked(document: dict[str, Any]) -> None:
    assert document["paths"]["/api/mcp/keys"]["post"]["x-plynx-extension"] is True
    assert "x-plynx-extension" not in document["paths"]["/api/boards"]["get"]
    assert document["paths"]["/ingest"]["post"]["x-surface"] == "telemetry"


def test_opaque_bodies_take_any_type(document: dict[str, Any]) -> None:
    body = document["paths"]["/api/ha/board/{boardId}/pin/{pin}"]["post"]["requestBody"]
    assert body["content"] == {"*/*": {"schema": {"type": "string", "format": "binary"}}}


def test_messages_that_hold_themselves_and_names_that_clash_are_described() -> None:
    messages = "message Node { repeated Node nodes = 1; string id = 2; string name = 3; }"
    rpcs = """
    Read(Node) returns (Node) {get: "/nodes/{id}"}
    Save(Node) returns (Node) {put: "/nodes/{name}" body: "*" additional_bindings {post: "/nodes" body: "*"}}
    """
    document = build_document(serve(service(messages, rpcs), lambda request, _call: request))
    OpenAPIV31SpecValidator(document).validate()
    assert set(document["paths"]["/nodes/{id}"]) == {"get", "put"}
    put = document["paths"]["/nodes/{id}"]["put"]
    assert [p["name"] for p in put["parameters"] if p["in"] == "path"] == ["id"]


def test_one_surface_can_be_described_alone() -> None:
    document = build_document(fake_rpcs(World()), surface=Surface.TELEMETRY)
    assert {op.get("x-surface", "telemetry") for op in operations(document).values()} == {"telemetry"}


async def test_the_document_is_served_as_json_and_as_the_same_yaml(web: httpx.AsyncClient) -> None:
    answer = await web.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == (await web.get("/api/openapi.json")).json()
    text = await web.get("/api/openapi.yaml")
    assert text.headers["content-type"] == "application/yaml"
    assert yaml.safe_load(text.text) == answer.json()
    assert text.text.startswith("openapi: 3.1.0")


async def test_an_unchanged_document_is_not_sent_again(web: httpx.AsyncClient) -> None:
    etag = (await web.get("/openapi.json")).headers["etag"]
    assert etag.startswith('W/"')
    answer = await web.get("/openapi.json", headers={"if-none-match": f'"x", {etag}'})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)


async def test_the_served_document_can_be_narrowed(web: httpx.AsyncClient) -> None:
    paths = (await web.get("/openapi.json?surface=telemetry")).json()["paths"]
    assert "/ingest" in paths
    assert "/api/boards" not in paths
    answer = await web.get("/openapi.json?surface=moon")
    assert (answer.status_code, answer.json()) == (400, {"error": "surface: must be maker, lab, telemetry, plans or system"})


async def test_the_documents_take_get_and_head_only(web: httpx.AsyncClient) -> None:
    answer = await web.post("/api/openapi.json")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.json() == {"error": "method not allowed, use GET, HEAD"}
    assert (await web.head("/api/openapi.json")).content == b""


async def test_the_pages_are_served_from_here_alone(web: httpx.AsyncClient) -> None:
    page = await web.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "http" not in page.text
    for address in re.findall(r'(?:src|href)="([^"]*)"', page.text):
        asset = await web.get(f"/{address}")
        assert asset.status_code == 200
        assert asset.content
    assert "openapi.json" in (await web.get("/docs/swagger-initializer.js")).text


async def test_doors_that_are_no_rpcs_can_be_mounted_and_described(world: World) -> None:
    async def door(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"mounted"})

    described = {"/metrics": {"get": {"operationId": "metrics", "responses": {"200": {"description": "Metrics."}}}}}
    routes = {"/metrics": door, "/console/*": door}
    async with client(rest_app(fake_rpcs(world), extra_routes=routes, extra_paths=described)) as web:
        assert [(await web.get(path)).text for path in ("/metrics", "/console/a/b")] == ["mounted", "mounted"]
        assert (await web.get("/metrics/x")).status_code == 404
        assert "/metrics" in (await web.get("/openapi.json")).json()["paths"]
