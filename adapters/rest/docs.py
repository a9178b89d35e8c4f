"""Serves the OpenAPI document, and the pages of Swagger UI that show it. Nothing is fetched from other hosts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import cache
from typing import Any
from urllib.parse import parse_qs

import orjson
from swagger_ui_bundle import swagger_ui_path

from adapters.rest.answers import Answer
from adapters.rest.body import Receive
from adapters.rest.dialects import DIALECTS, JSON, Asked, Refusal
from adapters.rest.openapi import build_document
from adapters.rest.request import Request
from adapters.rest.streams import Send
from core.kernel.ids import new_request_id
from core.kernel.rpc import Rpc
from core.kernel.settings import Settings
from gen.busbar.api.v1.options_pb import Surface

Scope = MutableMapping[str, Any]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

YAML = "application/yaml"
ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui-standalone-preset.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
# Relative addresses, so that the page works behind a proxy that serves it below a prefix.
PAGE = b"""<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <title>Busbar API</title>
    <link rel="stylesheet" href="docs/swagger-ui.css">
    <link rel="icon" type="image/png" href="docs/favicon-32x32.png">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="docs/swagger-ui-bundle.js"></script>
    <script src="docs/swagger-ui-standalone-preset.js"></script>
    <script src="docs/swagger-initializer.js"></script>
  </body>
</html>
"""
INITIALIZER = b"""window.onload = () => {
  window.ui = SwaggerUIBundle({
    url: "openapi.json" + location.search,
    dom_id: "#swagger-ui",
    deepLinking: true,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    layout: "StandaloneLayout",
  });
};
"""
POLICY = b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


def routes(rpcs: list[Rpc], settings: Settings, extra_paths: Mapping[str, Any] | None = None) -> dict[str, AsgiApp]:
    """Return the apps of the documents and the pages, by path."""
    documents = _Documents(rpcs, settings, extra_paths or {})
    return {
        "/openapi.json": _app(settings, documents.json),
        "/api/openapi.json": _app(settings, documents.json),
        "/api/openapi.yaml": _app(settings, documents.yaml),
        "/docs": _app(settings, _page),
        **{f"/docs/{name}": _app(settings, _asset(name)) for name in (*ASSETS, "swagger-initializer.js")},
    }


class _Documents:
    """The documents of all surfaces, each made when it is first asked for."""

    def __init__(self, rpcs: list[Rpc], settings: Settings, extra_paths: Mapping[str, Any]) -> None:
        self._rpcs = rpcs
        self._settings = settings
        self._extra_paths = extra_paths
        self._made: dict[tuple[Surface | None, str], tuple[bytes, bytes]] = {}
        self._lock = asyncio.Lock()

    async def json(self, request: Request, answer: Answer) -> None:
        """Answer with the document as JSON."""
        await self._answer(request, answer, JSON)

    async def yaml(self, request: Request, answer: Answer) -> None:
        """Answer with the document as YAML."""
        await self._answer(request, answer, YAML)

    async def _answer(self, request: Request, answer: Answer, kind: str) -> None:
        surface, known = _surface(request)
        if not known:
            answer.status = 400
            _refuse(request, answer, "surface: must be maker, lab, telemetry, plans or system")
            return
        key = (surface, kind)
        async with self._lock:
            if key not in self._made:
                self._made[key] = await asyncio.to_thread(self._make, surface, kind)
        content, etag = self._made[key]
        answer.headers += [(b"etag", etag), (b"cache-control", b"no-cache")]
        if etag in [tag.strip() for tag in request.headers.get(b"if-none-match", b"").split(b",")]:
            answer.status = 304
            return
        answer.content_type, answer.content = kind, content

    def _make(self, surface: Surface | None, kind: str) -> tuple[bytes, bytes]:
        extra = self._extra_paths if surface in (None, Surface.MAKER) else None
        content = orjson.dumps(build_document(self._rpcs, self._settings, surface, extra_paths=extra))
        if kind == YAML:
            import yaml  # noqa: PLC0415 - few ask for this form

            # Read back from JSON, so that the two are one and YAML needs no anchors for shared parts.
            dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
            content = yaml.dump(orjson.loads(content), Dumper=dumper, sort_keys=False, allow_unicode=True).encode()
        return content, b'W/"' + hashlib.sha256(content).hexdigest()[:32].encode() + b'"'


def _surface(request: Request) -> tuple[Surface | None, bool]:
    names = parse_qs(request.query.decode("latin-1")).get("surface")
    if not names:
        return None, True
    found = next((s for s in Surface if s.name.lower() == names[-1].lower() and s != Surface.UNSPECIFIED), None)
    return found, found is not None


async def _page(_request: Request, answer: Answer) -> None:
    answer.content_type, answer.content = "text/html; charset=utf-8", PAGE
    answer.headers.append((b"content-security-policy", POLICY))


def _asset(name: str) -> Callable[[Request, Answer], Awaitable[None]]:
    async def asset(_request: Request, answer: Answer) -> None:
        answer.content_type = ASSETS.get(name, "text/javascript")
        answer.content = INITIALIZER if name not in ASSETS else await asyncio.to_thread(_file, name)
        answer.headers.append((b"cache-control", b"max-age=3600"))

    return asset


@cache
def _file(name: str) -> bytes:
    return (swagger_ui_path / name).read_bytes()


def _app(settings: Settings, fill: Callable[[Request, Answer], Awaitable[None]]) -> AsgiApp:
    trusted, public_url = frozenset(settings.trusted_proxies), settings.public_url

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        request = Request(scope, trusted, public_url)
        answer = Answer(200, request.request_id or new_request_id())
        if request.method in ("GET", "HEAD"):
            await fill(request, answer)
        else:
            answer.headers.append((b"allow", b"GET, HEAD"))
            answer.status = 405
            _refuse(request, answer, "method not allowed, use GET, HEAD")
        message = answer.start(None if answer.status == 304 else len(answer.content))  # noqa: PLR2004
        await send(message)
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else answer.content})

    return app


def _refuse(request: Request, answer: Answer, message: str) -> None:
    refusal = Refusal(answer.status, message)
    answer.content_type, answer.content = DIALECTS[Surface.MAKER].envelope(refusal, Asked(request.path))
