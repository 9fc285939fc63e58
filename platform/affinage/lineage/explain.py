"""Why an answer is what it is: what was found, what served it, and what that learnt from.

Called by the command line and the gateway. Only the answer's own user or an operator is told; for everybody else the
answer does not exist. A passage is shown only as far as the reader may read it now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from affinage.answers.records import Answer, find_answer
from affinage.errors import UnknownObjectError
from affinage.identity.directory import roles_of
from affinage.identity.rights import Reader
from affinage.index.reading import current_passage
from affinage.lineage.origins import origins_of


def explain(connection: Connection, answer_id: str, *, reader: Reader | None) -> dict[str, Any]:
    """The keys of `affinage explain`.

    Parameters
    ----------
    reader
        Who asks. None is the operator at the machine itself, who sees names and numbers and no document's text.

    Raises
    ------
    UnknownObjectError
        If there is no such answer, or it is not for this reader.
    """
    found = find_answer(connection, answer_id)
    operator = reader is None or (
        found is not None and "operator" in roles_of(connection, who=reader, organisation_name=found.organisation)
    )
    if found is None or (reader is not None and reader.user != found.user_name and not operator):
        raise UnknownObjectError("answer", answer_id, hint="Answer ids are printed by `affinage ask`.")
    origin = origins_of(connection, variant_id=found.variant_id, generations=found.generations, detailed=operator)
    return {
        "answer_id": found.answer_id,
        "assistant": found.assistant,
        "question": found.question,
        "text": found.text,
        "known": found.known,
        "passages": [_passage(connection, found, passage, reader) for passage in found.passages],
        "citations": len(found.citations),
        "prompt_digest": found.prompt_digest,
        "generation": dict(found.generations),
        "variant": found.variant_id,
        "adapter": found.adapter,
        "experiment": found.experiment_id,
        "arm": found.arm,
        "q": found.q,
        "regenerates": found.regenerates,
        "guardrails": dict(found.guardrails),
        "tokens": {"input": found.input_tokens, "output": found.output_tokens},
        "seconds": found.seconds,
        "at": found.created_at.isoformat(),
        "lineage": origin,
    }


def _passage(connection: Connection, answer: Answer, recorded: Mapping[str, Any], reader: Reader | None) -> dict[str, Any]:
    shown = {"rank": recorded["rank"], "chunk_id": recorded["chunk_id"], "digest": recorded["digest"]}
    if reader is None:
        return {**shown, "document": recorded["document"]}
    now = current_passage(connection, recorded["chunk_id"], generations=answer.generations, principals=reader.principals)
    if now is None:
        return {**shown, "document": None, "text": None}
    return {**shown, "document": now.document, "title": now.title, "page": now.page, "text": now.text}
