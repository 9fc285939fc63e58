"""`GET /v1/answers/{id}` and `GET /v1/documents/{id}`: where an answer came from, and the source it quotes.

An answer is for its own user, and for operators of its organisation. What it quotes is shown as long as its reader may
read it; once they may not, the stored answer is as unknown to them as the document. Whatever is not there, or not for
this caller, is the same 404.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from affinage.answers.citations import PUBLIC_KEYS
from affinage.answers.records import Answer, find_answer
from affinage.answers.refusal import dont_know
from affinage.database.tables.index import document as document_table
from affinage.documents.blocks import ExtractedDocument
from affinage.errors import UnknownObjectError
from affinage.identity.directory import reader_of, roles_of
from affinage.identity.rights import Reader
from affinage.index.generations import serving_generations
from affinage.index.reading import current_passage, document_text
from affinage.serving.callers import Caller
from affinage.serving.parts import Parts, route
from affinage.serving.responses import json_response


def document_routes(parts: Parts) -> list[Route]:
    """Provenance and sources."""

    async def answer(request: Request, caller: Caller) -> Response:
        answer_id = request.path_params["answer_id"]
        return json_response(await parts.quick.run(lambda: _answer(parts, answer_id, caller)))

    async def document(request: Request, caller: Caller) -> Response:
        name = request.path_params["document"]
        return json_response(await parts.quick.run(lambda: _document(parts, name, caller)))

    return [
        route(parts, "/v1/answers/{answer_id}", answer, methods=["GET"]),
        route(parts, "/v1/documents/{document:path}", document, methods=["GET"]),
    ]


def _answer(parts: Parts, answer_id: str, caller: Caller) -> dict[str, Any]:
    with parts.database.read() as connection:
        found = find_answer(connection, answer_id)
        who = reader_of(connection, user=caller.user, groups=caller.groups)
        if found is None or not _may_see(connection, found, who):
            raise UnknownObjectError("answer", answer_id)
        return _shown(connection, found, who)


def _may_see(connection: Connection, answer: Answer, who: Reader) -> bool:
    return answer.user_name == who.user or "operator" in roles_of(connection, who=who, organisation_name=answer.organisation)


def _shown(connection: Connection, answer: Answer, who: Reader) -> dict[str, Any]:
    visible = {
        chunk_id
        for chunk_id in {passage["chunk_id"] for passage in answer.passages}
        if current_passage(connection, chunk_id, generations=answer.generations, principals=who.principals) is not None
    }
    quoted = [citation for citation in answer.citations if citation["chunk_id"] is None or citation["chunk_id"] in visible]
    whole = len(quoted) == len(answer.citations)
    return {
        "answer_id": answer.answer_id,
        "assistant": answer.assistant,
        "question": answer.question,
        "text": answer.text if whole else dont_know(answer.language),
        "known": answer.known and whole,
        "citations": [{key: citation[key] for key in PUBLIC_KEYS} for citation in quoted] if whole else [],
        "passages": [
            {"rank": passage["rank"], "document": passage["document"], "chunk_id": passage["chunk_id"]}
            for passage in answer.passages
            if passage["chunk_id"] in visible
        ],
        "regenerates": answer.regenerates,
        "created_at": answer.created_at.isoformat(),
    }


def _document(parts: Parts, name: str, caller: Caller) -> dict[str, Any]:
    source, _, path = name.partition("/")
    with parts.database.read() as connection:
        who = reader_of(connection, user=caller.user, groups=caller.groups)
        named = (document_table.c.source == source) & (document_table.c.path == path)
        doc_key = connection.execute(select(document_table.c.doc_key).where(named)).scalar()
        found = document_text(
            connection,
            parts.blobs,
            str(doc_key or ""),
            generations=serving_generations(connection, [source]),
            principals=who.principals,
        )
    if found is None:
        raise UnknownObjectError("document", name)
    return {
        "document": found.document,
        "title": found.title,
        "language": found.language,
        "text": found.content.text,
        "pages": _pages(found.content),
    }


def _pages(content: ExtractedDocument) -> list[dict[str, int]]:
    """Where each page begins in the text; empty for a format without pages."""
    starts: dict[int, int] = {}
    for block, (start, _) in zip(content.blocks, content.spans(), strict=True):
        if block.page is not None:
            starts.setdefault(block.page, start)
    return [{"page": page, "start": start} for page, start in sorted(starts.items())]
