"""`POST /v1/search`: what a question finds, under the caller's rights. No scores: they would tell of hidden documents."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from affinage.index.passages import Passage
from affinage.serving.callers import Caller
from affinage.serving.parts import Parts, route, storable
from affinage.serving.responses import decode, json_response, read_body


class SearchRequest(Struct, forbid_unknown_fields=True):
    """A query to the sources of one assistant."""

    assistant: Annotated[str, Meta(min_length=1, max_length=200)]
    query: Annotated[str, Meta(min_length=1, max_length=8000)]
    k: Annotated[int, Meta(ge=1, le=100)] = 10


def hits(passages: list[Passage]) -> list[dict[str, Any]]:
    """The keys of `affinage search --json`."""
    return [
        {"rank": rank, "document": p.document, "title": p.title, "page": p.page, "chunk_id": p.chunk_id, "text": p.text}
        for rank, p in enumerate(passages, 1)
    ]


def search_routes(parts: Parts) -> list[Route]:
    """The search route."""

    async def search(request: Request, caller: Caller) -> Response:
        asked = decode(await read_body(request), SearchRequest)
        query = storable(asked.query, param="query")
        found = await parts.slow.run(
            lambda: parts.answering.search(asked.assistant, query, user=caller.user, groups=caller.groups, k=asked.k)
        )
        return json_response({"hits": hits(found)})

    return [route(parts, "/v1/search", search, methods=["POST"])]
