"""`/openapi.json`, from the same types that check the requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from affinage import __version__
from affinage.feedback.submission import Submission
from affinage.serving.chat import ChatRequest
from affinage.serving.responses import json_response
from affinage.serving.search import SearchRequest

_SUMMARIES = {
    ("/v1/chat/completions", "post"): "Ask an assistant. Streams with `stream: true`.",
    ("/v1/models", "get"): "The assistants that the caller may use.",
    ("/v1/models/{name}", "get"): "One assistant.",
    ("/v1/search", "post"): "Search the sources of an assistant under the caller's rights.",
    ("/v1/feedback", "post"): "Say what an answer was worth. 201 when it is on disk; 200 with the same body for a repeated key.",
    ("/v1/answers/{answer_id}", "get"): "An answer and where it came from.",
    ("/v1/documents/{document}", "get"): "The text of a document, under the caller's rights.",
    ("/v1/sources/{name}/changed", "post"): "Say that a source has changed: a sync is due. Any body is taken, and none is believed.",
    ("/health/live", "get"): "Whether the process runs.",
    ("/health/ready", "get"): "Whether it takes requests.",
}


_CREATED = {"/v1/feedback": "201", "/v1/sources/{name}/changed": "202"}


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document of `routes`."""
    _, schemas = msgspec.json.schema_components([ChatRequest, SearchRequest], ref_template="#/components/schemas/{name}")
    feedback = Submission.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= feedback.pop("$defs", {}) | {"FeedbackRequest": feedback, "Error": _ERROR}
    bodies = {"/v1/chat/completions": "ChatRequest", "/v1/search": "SearchRequest", "/v1/feedback": "FeedbackRequest"}
    paths: dict[str, Any] = {}
    for route in routes:
        path = route.path.replace(":path", "")
        for method in sorted((route.methods or set()) - {"HEAD"}):
            verb = method.lower()
            if (path, verb) in _SUMMARIES:
                paths.setdefault(path, {})[verb] = _operation(path, verb, bodies.get(path))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Affinage", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "security": [{"bearer": []}],
    }


def openapi_route(routes: Sequence[Route]) -> Route:
    """The route that serves the description of `routes`; needs no token."""
    document = describe(routes)

    async def openapi(_request: Request) -> Response:
        return json_response(document)

    return Route("/openapi.json", openapi)


_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": ["string", "null"]},
                "param": {"type": ["string", "null"]},
            },
        }
    },
}


def _operation(path: str, verb: str, body: str | None) -> dict[str, Any]:
    failed = {"description": "Failed.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    created = _CREATED.get(path, "200")
    operation: dict[str, Any] = {"summary": _SUMMARIES[(path, verb)], "responses": {created: {"description": "Done."}, "default": failed}}
    if body is not None:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body}"}}}
        operation["requestBody"] = {"required": True, "content": content}
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    if names:
        operation["parameters"] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    if path.startswith("/health"):
        operation["security"] = []
    return operation
