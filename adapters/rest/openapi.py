"""The OpenAPI 3.1 document, made from the descriptors, their options and their comments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from protobuf import DescField, DescFieldValueList, DescFieldValueMessage, DescMessage

from adapters.rest.answers import REVISION
from adapters.rest.binding import HTTP_BODY, UPDATE_MASK, Binding, header_of
from adapters.rest.descriptors import comment, field_by_name, json_name
from adapters.rest.dialects import DIALECTS, JSON, STATUS, STATUS_OF_REASON, Dialect
from adapters.rest.examples import add_examples
from adapters.rest.forms import KIND as FORM
from adapters.rest.openapi_schema import Schema, Schemas, behaves, prefix, scalar_like
from adapters.rest.routing import Template
from adapters.rest.streams import EVENTS, LINES
from core.kernel.rpc import ROLES, Rpc, verb_and_path
from core.kernel.settings import Settings
from gen.busbar.api.v1.options_pb import Access, CredentialKind, Multipart, Surface
from gen.google.api.field_behavior_pb import FieldBehavior
from gen.google.api.http_pb import HttpRule

SECURITY: dict[str, Schema] = {
    "sessionCookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "plynx_session",
        "description": "Session of a user, set by login and register.",
    },
    "bearerSession": {"type": "http", "scheme": "bearer", "description": "The same session token, for scripts."},
    "bearerMCP": {"type": "http", "scheme": "bearer", "bearerFormat": "plnx_...", "description": "Agent key."},
    "bearerHA": {"type": "http", "scheme": "bearer", "bearerFormat": "plnx_...", "description": "Agent key, as bearerMCP."},
    "bearerBoard": {"type": "http", "scheme": "bearer", "bearerFormat": "pbt_...", "description": "Token of one board."},
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "Telemetry key `plx_...` or device token `plxd_...`.",
    },
    "bearerLab": {"type": "http", "scheme": "bearer", "description": "Signed access token, or lab token `wm_...`."},
    "bearerPlans": {"type": "http", "scheme": "bearer", "description": "Bearer of the plans command line."},
}
SCHEMES = {
    CredentialKind.SESSION: ("sessionCookie", "bearerSession"),
    CredentialKind.AGENT_KEY: ("bearerMCP",),
    CredentialKind.BOARD_TOKEN: ("bearerBoard",),
    CredentialKind.TELEMETRY_KEY: ("apiKey",),
    CredentialKind.DEVICE_TOKEN: ("apiKey",),
    CredentialKind.LAB_TOKEN: ("bearerLab",),
    CredentialKind.LAB_JWT: ("bearerLab",),
    CredentialKind.PLANS_TOKEN: ("bearerPlans",),
}

_ONE_TEXT: Schema = {"type": "string"}
ERRORS: dict[Surface, tuple[str, Schema]] = {
    Surface.MAKER: ("Error", {"type": "object", "required": ["error"], "properties": {"error": _ONE_TEXT}}),
    Surface.SYSTEM: ("Error", {"type": "object", "required": ["error"], "properties": {"error": _ONE_TEXT}}),
    Surface.TELEMETRY: (
        "TelemetryError",
        {"type": "object", "required": ["error", "message"], "properties": {"error": _ONE_TEXT, "message": _ONE_TEXT}},
    ),
    Surface.LAB: (
        "LabError",
        {
            "type": "object",
            "required": ["detail"],
            "properties": {"detail": {"anyOf": [_ONE_TEXT, {"type": "array", "items": {"type": "object"}}]}},
        },
    ),
    Surface.PLANS: (
        "PlansError",
        {
            "type": "object",
            "required": ["type", "status", "msg"],
            "properties": {"type": _ONE_TEXT, "status": {"type": "integer"}, "msg": _ONE_TEXT},
        },
    ),
}
REASONS = {
    "400": "The request is wrong; the message names the field.",
    "401": "There is no valid credential.",
    "403": "The caller is known but not allowed.",
    "404": "It does not exist, or the caller may not know that it does.",
    "409": "The state of the system forbids it.",
    "412": "It has changed since the revision named in If-Match.",
    "413": "The body is too large.",
    "415": "The body has a type that is not taken.",
    "422": "The request is wrong; the message names the field.",
    "429": "Too many requests; Retry-After tells when to come back.",
    "502": "Another server that this depends on failed or cannot be reached.",
    "503": "It cannot be done now; nothing was changed.",
    "504": "It took too long.",
}
_STATUS = {**STATUS, **{reason.name: status for reason, status in STATUS_OF_REASON.items()}}
_CODES = re.compile(r"\b(" + "|".join(_STATUS) + r")\b")


def build_document(
    rpcs: Iterable[Rpc],
    settings: Settings | None = None,
    surface: Surface | None = None,
    *,
    extra_paths: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe every rpc that has an HTTP rule, of one surface or of all.

    `extra_paths` are path items of doors that are no rpcs, as they stand in the document.
    """
    chosen = [rpc for rpc in rpcs if rpc.http and (surface is None or rpc.surface == surface)]
    builder = _Builder()
    for rpc in chosen:
        builder.add(rpc)
    builder.paths.update(extra_paths or {})
    builder.add_documents()
    url = settings.public_url.rstrip("/") if settings is not None else ""
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Busbar",
            "version": _version(),
            "summary": "One self-hosted server for boards, rigs, and the agents that work on them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{"url": url or "/"}],
        "tags": builder.tags(chosen),
        "paths": builder.paths,
        "components": {"schemas": builder.schemas.components, "securitySchemes": SECURITY},
    }
    add_examples(document)
    return document


class _Builder:
    def __init__(self) -> None:
        self.paths: dict[str, Any] = {}
        self.schemas = Schemas()
        self._shapes: dict[str, str] = {}
        self._ids: set[str] = set()

    def tags(self, rpcs: list[Rpc]) -> list[Schema]:
        services = {rpc.service.type_name: _tag(rpc) for rpc in rpcs}
        found = [{"name": tag, "description": comment(name)} for name, tag in services.items()]
        return [*found, {"name": "Documents", "description": "This description."}]

    def add(self, rpc: Rpc) -> None:
        for rule in rpc.http:
            operation = _Operation(rpc, rule, self.schemas)
            item = self._item(operation.path)
            if rpc.rest.when:
                operation.join(item[operation.method.lower()])
                continue
            item[operation.method.lower()] = {"operationId": self._id(rpc), **operation.describe(self._renamed(operation.path))}

    def add_documents(self) -> None:
        """Describe the addresses of the description."""
        for path, kind in (
            ("/api/openapi.json", JSON),
            ("/api/openapi.yaml", "application/yaml"),
            ("/openapi.json", JSON),
        ):
            name = "".join(part.title() for part in re.findall(r"[a-z]+", path))
            self._item(path)["get"] = {
                "operationId": f"Documents_Get{name}",
                "tags": ["Documents"],
                "summary": "Returns this description.",
                "security": [],
                "parameters": [
                    {
                        "name": "surface",
                        "in": "query",
                        "description": "Surface to describe; all when it is left out.",
                        "schema": {"type": "string", "enum": [s.name.lower() for s in Surface if s != Surface.UNSPECIFIED]},
                    }
                ],
                "responses": {
                    "200": {"description": "The description.", "content": {kind: {"schema": {"type": "object"}}}},
                    "304": {"description": "It is the one named in If-None-Match."},
                },
            }

    def _item(self, path: str) -> dict[str, Any]:
        shape = re.sub(r"\{[^}]*\}", "{}", path)
        return self.paths.setdefault(self._shapes.setdefault(shape, path), {})

    def _renamed(self, path: str) -> dict[str, str]:
        """Return the names that variables have in the document, where another rule had the same path first."""
        known = self._shapes[re.sub(r"\{[^}]*\}", "{}", path)]
        return dict(zip(re.findall(r"\{([^}]*)\}", path), re.findall(r"\{([^}]*)\}", known), strict=True))

    def _id(self, rpc: Rpc) -> str:
        name = f"{rpc.service.name}_{rpc.method.name}"
        names = [name, *(f"{name}_{number}" for number in range(2, 100))]
        free = next(n for n in names if n not in self._ids)
        self._ids.add(free)
        return free


class _Operation:
    """One HTTP rule as the document shows it."""

    def __init__(self, rpc: Rpc, rule: HttpRule, schemas: Schemas) -> None:
        self._rpc = rpc
        self._rule = rule
        self._schemas = schemas
        self._dialect: Dialect = DIALECTS[rpc.surface]
        self._binding = Binding(rpc, rule)
        self._request: DescMessage = rpc.request.desc()
        self.method, template = verb_and_path(rule)
        self.path = self._path(template)
        self._text = comment(f"{rpc.service.type_name}.{rpc.method.name}")

    def describe(self, renamed: dict[str, str]) -> Schema:
        rpc = self._rpc
        summary, _, _ = self._text.partition(". ")
        operation: Schema = {
            "tags": [_tag(rpc)],
            "summary": summary.rstrip("."),
            "description": self._description(),
            "x-surface": rpc.surface.name.lower(),
        }
        if rpc.rest.extension and rpc.surface == Surface.MAKER:
            operation["x-plynx-extension"] = True
        parameters = [*self._path_parameters(renamed), *self._query_parameters(), *self._header_parameters()]
        if parameters:
            operation["parameters"] = parameters
        body = self._body()
        if body is not None:
            operation["requestBody"] = body
        operation["responses"] = self._responses()
        operation["security"] = self._security()
        return operation

    def join(self, operation: Schema) -> None:
        """Add the answer of an rpc that serves the path of another one."""
        operation["responses"][str(self._rpc.rest.success or 200)].setdefault("content", {}).update(self._content())

    def _path(self, template: str) -> str:
        parsed = Template.parse(template)
        names = {v.name: ".".join(self._name(part) for part in v.name.split(".")) for v in parsed.variables}
        return re.sub(r"\{([a-zA-Z0-9_.]+)(?:=[^}]*)?\}", lambda found: f"{{{names[found[1]]}}}", template)

    def _name(self, name: str) -> str:
        field = field_by_name(self._request, name)
        return name if field is None else json_name(field, declared=self._dialect.style.declared_names)

    def _description(self) -> str:
        if not self._rpc.server_streams or self._rpc.response.desc().type_name == HTTP_BODY:
            return self._text
        if self._rpc.rest.events:
            return f"{self._text}\nAnswers server-sent events."
        form = self._dialect.form
        end = "a line" if form.mark == "\n" else f"before each `{form.mark}`"
        return f"{self._text}\nAnswers one JSON text {end}, or server-sent events where Accept names `{EVENTS}`."

    def _field(self, path: str) -> DescField | None:
        message: DescMessage | None = self._request
        field = None
        for part in path.split("."):
            field = None if message is None else field_by_name(message, part)
            value = None if field is None else field.value
            message = value.message if isinstance(value, DescFieldValueMessage) else None
        return field

    def _path_parameters(self, renamed: dict[str, str]) -> list[Schema]:
        parameters: list[Schema] = []
        for variable in self._binding.variables:
            field = self._field(".".join(variable.path))
            if field is not None:
                name = ".".join(self._name(part) for part in variable.path)
                parameters.append({**self._parameter(field, renamed[name], "path"), "required": True})
        return parameters

    def _parameter(self, field: DescField, name: str, where: str) -> Schema:
        schema = self._schemas.field(field, self._dialect.style, reading=True)
        text = schema.pop("description", "")
        # A path or a query is text to begin with, so the integer alone would be one spelling too few.
        schema = schema["anyOf"][-1] if prefix(field) else schema
        return {"name": name, "in": where, **({"description": text} if text else {}), "schema": schema}

    def _query_parameters(self) -> list[Schema]:
        if self._binding.body == "*" or self._rpc.rest.multipart is not None:
            return []
        return [parameter for field in self._free() for parameter in self._query(field, "")]

    def _free(self) -> list[DescField]:
        """Return the fields that neither path nor body fill."""
        bound = {variable.path[0] for variable in self._binding.variables}
        return [
            field
            for field in self._request.fields
            if field.name not in bound
            and self._binding.locate(field.name) == "query"
            and not behaves(field, FieldBehavior.OUTPUT_ONLY)
        ]

    def _query(self, field: DescField, above: str) -> list[Schema]:
        name = above + json_name(field, declared=self._dialect.style.declared_names)
        if scalar_like(field):
            parameter = self._parameter(field, name, "query")
            return [{**parameter, "required": True} if behaves(field, FieldBehavior.REQUIRED) and not above else parameter]
        if isinstance(field.value, DescFieldValueMessage) and name.count(".") == 0:
            return [p for inner in field.value.message.fields for p in self._query(inner, f"{name}.")]
        return []

    def _header_parameters(self) -> list[Schema]:
        parameters = [self._parameter(field, name, "header") for field in self._request.fields if (name := header_of(field))]
        streams = self._rpc.client_streams or self._rpc.server_streams
        if self._rpc.mutates and not streams and self._rpc.access.level != Access.Level.PUBLIC:
            text = "Names the request: sent again with the same key, it is done once and answered as before."
            parameters.append({"name": "Idempotency-Key", "in": "header", "description": text, "schema": {"type": "string"}})
        if self._revisioned:
            text = "Revision that is to be changed; the request is refused when there is a newer one."
            parameters.append({"name": "If-Match", "in": "header", "description": text, "schema": {"type": "string"}})
        return parameters

    @property
    def _revisioned(self) -> bool:
        return self._rpc.mutates and field_by_name(self._rpc.response.desc(), self._rpc.rest.revision or REVISION) is not None

    def _body(self) -> Schema | None:
        binding, style = self._binding, self._dialect.style
        if self._rpc.rest.multipart is not None:
            return {"required": True, "content": {FORM: {"schema": self._form(self._rpc.rest.multipart)}}}
        if binding.opaque:
            return {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
        if binding.body_field is not None:
            schema = self._schemas.field(binding.body_field, style, reading=True)
            return {"required": behaves(binding.body_field, FieldBehavior.REQUIRED), "content": {JSON: {"schema": schema}}}
        if binding.body != "*":
            return None
        bound = frozenset(variable.path[0] for variable in binding.variables)
        masked = field_by_name(self._request, UPDATE_MASK) is not None
        schema = self._schemas.input(self._request, style, bound, changes=self._rpc.response.desc() if masked else None)
        needed = any(behaves(f, FieldBehavior.REQUIRED) and f.name not in bound for f in self._request.fields)
        if binding.bare is not None:
            schema = {"anyOf": [schema, self._bare(binding.bare)]}
        kind = LINES if self._rpc.client_streams else JSON
        return {"required": needed, "content": {kind: {"schema": schema}}}

    def _bare(self, field: DescField) -> Schema:
        if isinstance(field.value, DescFieldValueList):
            return self._schemas.field(field, self._dialect.style, reading=True)
        return {"type": ["string", "number", "boolean", "null"]}

    def _form(self, form: Multipart) -> Schema:
        """Return the schema of a form: its file, and texts that fill what path and file do not."""
        file = "" if self._binding.body_field is None else comment(f"{self._request.type_name}.{self._binding.body_field.name}")
        properties: Schema = {form.part: {"type": "string", "format": "binary", **({"description": file} if file else {})}}
        texts = [parameter for field in self._free() if field.name != form.filename for parameter in self._query(field, "")]
        for text in texts:
            about = {"description": text["description"]} if "description" in text else {}
            properties[text["name"]] = {**text["schema"], **about}
        needed = [form.part, *(text["name"] for text in texts if text.get("required"))]
        return {"type": "object", "properties": properties, "required": needed}

    def _responses(self) -> Schema:
        rpc = self._rpc
        status = str(rpc.rest.success or 200)
        answer: Schema = {"description": comment(rpc.response.desc().type_name) or "Success."}
        if status != "204" and not rpc.rest.empty:
            answer["content"] = self._content()
        responses = dict.fromkeys((status, *map(str, rpc.rest.also)), answer)
        name, schema = ERRORS[rpc.surface]
        self._schemas.components.setdefault(name, schema)
        reference = {"$ref": f"#/components/schemas/{name}"}
        kinds = {JSON: {"schema": reference}}
        if rpc.surface == Surface.PLANS:
            kinds = {"text/plain": {"schema": {"type": "string"}}, **kinds}
        for code in sorted(self._error_codes()):
            responses[code] = {"description": REASONS[code], "content": kinds}
        responses["default"] = {"description": "The request failed.", "content": kinds}
        return responses

    def _content(self) -> Schema:
        rpc, style = self._rpc, self._dialect.answer_style(self._rpc.rest)
        part = field_by_name(rpc.response.desc(), self._rule.response_body) if self._rule.response_body else None
        if HTTP_BODY in (rpc.response.desc().type_name, None if part is None else _message_name(part)):
            return {"*/*": {"schema": {"type": "string", "format": "binary"}}}
        if rpc.rest.text:
            return {"text/plain": {"schema": {"type": "string"}}}
        schema = self._schemas.output(rpc.response.desc(), style)
        if part is not None:
            schema = self._schemas.field(part, style, reading=False)
        if rpc.rest.events:
            return {EVENTS: {"schema": _event(schema)}}
        if rpc.server_streams:
            return {self._lines: {"schema": schema}, EVENTS: {"schema": _event(schema)}}
        return {JSON: {"schema": schema}}

    @property
    def _lines(self) -> str:
        """Media type of a stream that is no event stream."""
        return self._dialect.form.content_type.partition(";")[0]

    def _error_codes(self) -> set[str]:
        rpc, dialect = self._rpc, self._dialect
        codes = {str(_STATUS[code]) for code in _CODES.findall(self._text)} & REASONS.keys()
        if rpc.request.desc().fields:
            codes.add(str(dialect.invalid))
        if rpc.access.level != Access.Level.PUBLIC:
            codes.add("401")
            if rpc.access.scope or rpc.access.level in ROLES:
                codes.add("403")
        if self._binding.variables:
            codes.add("404")
        if self._binding.body:
            bare = self._rpc.rest.multipart is None and (self._binding.opaque or self._binding.raw)
            codes |= {"413"} if bare else {"413", str(dialect.unsupported)}
        if rpc.limits or dialect.limit(Settings(), "POST", self.path, "") is not None:
            codes.add("429")
        if self._revisioned:
            codes.add("412")
        return codes

    def _security(self) -> list[dict[str, list[str]]]:
        rpc = self._rpc
        # A public operation that names credentials has a use for them.
        if rpc.access.level == Access.Level.PUBLIC and not rpc.rest.query_token and not rpc.rest.credentials:
            return []
        kinds = frozenset(rpc.rest.credentials) or self._dialect.accepts or frozenset(SCHEMES)
        if rpc.access.kinds:
            kinds &= frozenset(rpc.access.kinds)
        names = [name for kind in sorted(kinds) for name in SCHEMES[kind]]
        if self.path.startswith("/api/ha") and "bearerMCP" in names:
            names.append("bearerHA")
        found: list[dict[str, list[str]]] = [{name: []} for name in dict.fromkeys(names)]
        return [*found, {}] if rpc.access.level == Access.Level.PUBLIC else found


def _version() -> str:
    try:
        return version("busbar")
    except PackageNotFoundError:
        return "0+source"


def _message_name(field: DescField) -> str:
    return field.value.message.type_name if isinstance(field.value, DescFieldValueMessage) else ""


def _event(schema: Schema) -> Schema:
    """Return the schema of a server-sent event whose data is a JSON text."""
    data = {"type": "string", "contentMediaType": JSON, "contentSchema": schema}
    return {
        "type": "object",
        "properties": {"data": data, "event": _ONE_TEXT, "id": _ONE_TEXT},
        "required": ["data"],
    }


def _tag(rpc: Rpc) -> str:
    return rpc.service.name.removesuffix("Service")
