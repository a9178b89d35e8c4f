"""How the REST documents describe the MCP endpoint, which no HTTP rule of an rpc can."""

from __future__ import annotations

from typing import Any

_MESSAGE = {
    "type": "object",
    "required": ["jsonrpc"],
    "properties": {
        "jsonrpc": {"type": "string", "const": "2.0"},
        "id": {"type": ["string", "integer", "null"]},
        "method": {"type": "string"},
        "params": {"type": "object"},
        "result": {"type": "object"},
        "error": {"type": "object"},
    },
}

PATHS: dict[str, Any] = {
    "/api/mcp/rpc": {
        "post": {
            "operationId": "Mcp_Call",
            "tags": ["Mcp"],
            "summary": "Speaks MCP.",
            "description": "One JSON-RPC request of the Model Context Protocol, of its stateless or its handshake revisions. "
            "Tools follow the scopes of the key; `?toolsets=` narrows them. `/mcp` is the same, for keys of every kind.",
            "security": [{"bearerMCP": []}],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {**_MESSAGE, "required": ["jsonrpc", "method"]}}},
            },
            "responses": {
                "200": {"description": "Answer", "content": {"application/json": {"schema": _MESSAGE}}},
                "202": {"description": "A notification was taken"},
                "400": {"description": "No JSON-RPC request", "content": {"application/json": {"schema": _MESSAGE}}},
                "401": {"description": "The key is missing or does not count"},
                "404": {"description": "Unknown method", "content": {"application/json": {"schema": _MESSAGE}}},
                "429": {"description": "Too many requests"},
            },
        }
    }
}
