"""From a judged answer to candidate rows, one function for each kind.

Decides what is learnt from what; reads current chunks only through the function it is given, so that no text enters a
row that the answer's user may not read now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from affinage.answers.prompts import Prompt, neutralised, render
from affinage.answers.structured import canonical, parse_reply, problems
from affinage.datasets.candidates import Candidate
from affinage.datasets.rows import Kind
from affinage.datasets.select import Judged
from affinage.declarations.model import AssistantSpec
from affinage.identity.rights import covers, intersection
from affinage.index.passages import Passage

PROMPT_PASSAGES = 5
# As many as production puts into a prompt.
CITED_CHUNKS = 3
# Chunks that one accepted answer teaches the retriever.
MAX_LABEL_CHARS = 80
REGENERATION_WEIGHT = 0.25
# Asking again is weak evidence: it may be curiosity.
EXTRACTIVE = "extractive"


@dataclass(frozen=True)
class Context:
    """What the functions below need besides the answer.

    `passage_of(chunk id, user)` is the current chunk if that user may read it now; `quoted` maps an answer id to the
    chunks that its correction quotes; `sibling_texts` has the texts of the answers that others were preferred over.
    """

    spec: AssistantSpec
    audience: Sequence[str]
    prompt: Prompt
    passage_of: Callable[[str, str], Passage | None]
    quoted: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sibling_texts: Mapping[str, str] = field(default_factory=dict)
    engine_of: Mapping[str, str] = field(default_factory=dict)
    improved: frozenset[str] = frozenset()


def candidates_of(kind: Kind, judged: Judged, context: Context) -> list[Candidate]:
    """The candidate rows that one judged answer gives."""
    makers = {
        "sft": _sft,
        "extraction": _structured,
        "classification": _structured,
        "dpo": _pairs,
        "kto": _ratings,
        "embedding": _retrieval,
    }
    return makers[kind](kind, judged, context)


@dataclass(frozen=True)
class _Prompted:
    messages: list[dict[str, str]]
    passages: tuple[Passage, ...]
    failed: str | None


def _prompted(judged: Judged, context: Context) -> _Prompted:
    """The messages that production sends for this question, from the passages as they are now."""
    spec = context.spec
    recorded = sorted(judged.answer["passages"], key=lambda passage: passage["rank"])[:PROMPT_PASSAGES] if spec.sources else []
    found = [context.passage_of(passage["chunk_id"], judged.said.user) for passage in recorded]
    passages = tuple(passage for passage in found if passage is not None)
    # A passage that is gone or hidden now: the answer can no longer be checked against it.
    failed = "references" if len(passages) < len(found) else None
    messages = render(context.prompt, question=judged.answer["question"], passages=passages, schema=spec.answer_schema)
    return _Prompted([{"role": message.role, "content": message.content} for message in messages], passages, failed)


def _common(judged: Judged, kinds: Sequence[str], *, passages: Sequence[Passage]) -> dict[str, Any]:
    said, answer = judged.said, judged.answer
    times: list[datetime] = [said.said_at[kind] for kind in kinds]
    return {
        "question": answer["question"],
        "user": said.user,
        "unit": answer["unit"],
        "said_at": max(times),
        "language": answer["language"],
        "answer_id": answer["answer_id"],
        "feedback_ids": tuple(sorted({said.feedback_ids[kind] for kind in kinds})),
        "passages": tuple(passage.text for passage in passages),
        "doc_keys": tuple(sorted({passage.doc_key for passage in passages})),
        "chunk_ids": tuple(passage.chunk_id for passage in passages),
        "chunk_digests": tuple(hashlib.sha256(passage.text.encode()).hexdigest() for passage in passages),
        "allow": intersection(passage.allow for passage in passages),
    }


def _written(judged: Judged, context: Context, *texts: str | None) -> str:
    """What the user wrote; without sources the answer repeats what the user wrote, so it counts as well."""
    own = [judged.answer["question"], *texts, None if context.spec.sources else judged.answer["text"]]
    return "\n".join(text for text in own if text)


def _engine(judged: Judged, context: Context) -> str | None:
    engine = context.engine_of.get(judged.answer["variant_id"], context.spec.engine)
    # The extractive engine writes sentences of the organisation's own documents: no model, no terms.
    return None if engine == EXTRACTIVE else engine


def _accepted(judged: Judged) -> tuple[str, str] | None:
    """(target, kind of feedback it rests on): the correction, else the answer that was rated up."""
    if judged.said.correction is not None:
        # A control token in a correction would end the model's turn early, or open another.
        return neutralised(judged.said.correction), "correction"
    return (judged.answer["text"], "rating") if judged.said.rating == "up" else None


def _sft(kind: Kind, judged: Judged, context: Context) -> list[Candidate]:
    accepted = _accepted(judged)
    if accepted is None:
        return []
    target, basis = accepted
    prompted = _prompted(judged, context)
    return [
        Candidate(
            kind=kind,
            payload={"messages": prompted.messages, "target": target},
            target=target,
            own_text=_written(judged, context, judged.said.correction),
            origin=basis,
            generated_by=_engine(judged, context) if basis == "rating" else None,
            failed=prompted.failed,
            **_common(judged, [basis], passages=prompted.passages),
        )
    ]


def _structured(kind: Kind, judged: Judged, context: Context) -> list[Candidate]:
    accepted = _accepted(judged)
    if accepted is None:
        return []
    text, basis = accepted
    target, failed = canonical_target(text, context.spec.answer_schema)
    prompted = _prompted(judged, context)
    return [
        Candidate(
            kind=kind,
            payload={"messages": prompted.messages, "target": target},
            target=target,
            own_text=_written(judged, context, judged.said.correction),
            origin=basis,
            generated_by=_engine(judged, context) if basis == "rating" else None,
            topic=_digest(*(message["content"] for message in prompted.messages)),
            verdict=target,
            failed=failed or prompted.failed,
            # A quotation mark in JSON is no citation.
            **{**_common(judged, [basis], passages=prompted.passages), "passages": ()},
        )
    ]


def canonical_target(text: str, schema: Mapping[str, Any] | None) -> tuple[str, str | None]:
    """(target, reason it cannot be one): JSON in the schema's order; without a schema, a short label."""
    if schema is None:
        label = text.strip()
        return label, None if "\n" not in label and len(label) <= MAX_LABEL_CHARS else "schema"
    value = parse_reply(text)
    if value is None or problems(value, schema):
        return text, "schema"
    return canonical(value, schema), None


def _pairs(kind: Kind, judged: Judged, context: Context) -> list[Candidate]:
    said, text = judged.said, judged.answer["text"]
    pairs: list[tuple[str, str, str]] = []
    if said.correction is not None and said.correction != text:
        pairs.append((neutralised(said.correction), text, "correction"))
    if said.preferred_over is not None and context.sibling_texts.get(said.preferred_over, text) != text:
        pairs.append((text, context.sibling_texts[said.preferred_over], "preferred_over"))
    if not pairs:
        return []
    prompted = _prompted(judged, context)
    return [
        Candidate(
            kind=kind,
            payload={"messages": prompted.messages, "chosen": chosen, "rejected": rejected},
            target=chosen,
            own_text=_written(judged, context, said.correction),
            origin=basis,
            generated_by=_engine(judged, context) if basis == "preferred_over" else None,
            topic=_digest(*(message["content"] for message in prompted.messages), *sorted((chosen, rejected))),
            verdict=_digest(chosen),
            failed=prompted.failed,
            **_common(judged, [basis], passages=prompted.passages),
        )
        for chosen, rejected, basis in pairs
    ]


def _ratings(kind: Kind, judged: Judged, context: Context) -> list[Candidate]:
    said, text = judged.said, judged.answer["text"]
    if said.rating is not None:
        basis, desirable, weight = "rating", said.rating == "up", 1.0
    elif said.regenerated and judged.answer["answer_id"] in context.improved:
        # Only together with a better answer: alone it says nothing.
        basis, desirable, weight = "regeneration", False, REGENERATION_WEIGHT
    else:
        return []
    prompted = _prompted(judged, context)
    return [
        Candidate(
            kind=kind,
            payload={"messages": prompted.messages, "completion": text, "desirable": desirable},
            target=text,
            own_text=_written(judged, context),
            origin=basis,
            weight=weight,
            generated_by=_engine(judged, context),
            topic=_digest(*(message["content"] for message in prompted.messages), text),
            verdict="up" if desirable else "down",
            failed=prompted.failed,
            **_common(judged, [basis], passages=prompted.passages),
        )
    ]


def _retrieval(kind: Kind, judged: Judged, context: Context) -> list[Candidate]:
    said = judged.said
    if said.correction is not None:
        basis, wanted = "correction", list(context.quoted.get(judged.answer["answer_id"], ()))
        if not wanted:
            return [_unusable(kind, judged, context, reason="quotes")]
    elif said.rating == "up":
        basis = "rating"
        wanted = list(dict.fromkeys(c["chunk_id"] for c in judged.answer["citations"] if c.get("chunk_id")))[:CITED_CHUNKS]
    else:
        return []
    found = [passage for passage in (context.passage_of(chunk_id, said.user) for chunk_id in wanted) if passage is not None]
    if basis == "correction":
        # One chunk for one quotation: the first that the whole audience may read, else the first that the user may.
        found = sorted(found, key=lambda passage: not covers(passage.allow, context.audience))[:1]
        if not found:
            return [_unusable(kind, judged, context, reason="rights")]
    elif wanted and not found:
        return [_unusable(kind, judged, context, reason="references")]
    return [_retrieval_row(kind, judged, passage, basis) for passage in found]


def _retrieval_row(kind: Kind, judged: Judged, passage: Passage, basis: str) -> Candidate:
    payload = {
        "question": judged.answer["question"],
        "passage": embedded_text(passage),
        "chunk_id": passage.chunk_id,
        "doc_key": passage.doc_key,
    }
    # Only the question is the user's own: the passage is the organisation's, and the correction quotes it.
    common = {**_common(judged, [basis], passages=[passage]), "passages": ()}
    return Candidate(kind=kind, payload=payload, target=passage.text, own_text=judged.answer["question"], origin=basis, **common)


def _unusable(kind: Kind, judged: Judged, context: Context, *, reason: str) -> Candidate:
    basis = "correction" if judged.said.correction is not None else "rating"
    target = judged.said.correction or judged.answer["text"]
    payload = {"question": judged.answer["question"], "answer_id": judged.answer["answer_id"], "target": target}
    common = _common(judged, [basis], passages=())
    return Candidate(
        kind=kind, payload=payload, target=target, own_text=_written(judged, context, target), origin=basis, failed=reason, **common
    )


def embedded_text(passage: Passage) -> str:
    """What is embedded of a chunk: heading path, then text (a table's repeated header row is left out)."""
    return f"{passage.heading}\n{passage.text}" if passage.heading else passage.text


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
