"""From a question to a checked answer, in three steps that callers join: prepare, generate, check.

`prepare` retrieves under the reader's rights and makes the prompt; the engine answers (many prompts in one batch);
`check` keeps what stands in the passages and looks each quote up again, under the rights of that moment. Two kinds of
assistants follow from the declaration:

- With sources, an answer is made of verbatim sentences (or of JSON values that stand in a passage). Without one checked
  citation it is "I don't know", and `known` is false.
- Without sources the question is the only text there is. JSON must validate, or the answer is "I don't know"; `known`
  is true when at least one of its values stands verbatim in the question, which is then cited as document `question`.
  Free text is shown as generated, without foreign links, and is never `known`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from affinage.answers.citations import Citation, Sentence
from affinage.answers.duplicates import collapse
from affinage.answers.grounding import cite, ground, passage_sentences
from affinage.answers.links import foreign_links, without_foreign_links
from affinage.answers.prompts import Prompt, prompt_digest, render
from affinage.answers.quotes import locate, still_holds
from affinage.answers.refusal import dont_know
from affinage.answers.structured import canonical, evidence, parse_reply, problems
from affinage.declarations.model import AssistantSpec
from affinage.documents.languages import detect
from affinage.engines.extractive import Excerpt
from affinage.engines.protocols import Message
from affinage.index.passages import Passage

EXTRACTIVE = "extractive"
RETRIEVED = 8
# Passages looked at; a ninth seldom holds what the first eight do not, and a small context holds no more.
_IN_PROMPT = 5
# Five passages of at most 800 characters fit a context of 2,048 tokens in French.

Select = Callable[[str, Sequence[Excerpt]], Sequence[int]]
"""Extractive engine: (question, excerpts) -> indices of those that answer, best first; empty when none does."""
Recheck = Callable[[str], Passage | None]
"""Chunk id -> the chunk as this reader may see it now, or None."""


class Search(Protocol):
    """What retrieval needs of the index."""

    def search(self, query: str, *, generations: Mapping[str, str], principals: frozenset[str], k: int) -> list[Passage]:
        """The `k` best passages that `principals` may read."""


@dataclass(frozen=True)
class Prepared:
    """A question with what was found for it. `messages` is empty for the extractive engine."""

    spec: AssistantSpec
    question: str
    language: str
    passages: tuple[Passage, ...]
    messages: tuple[Message, ...]
    prompt_digest: str

    @property
    def needs_engine(self) -> bool:
        """Whether a generator must answer: not without anything to answer from."""
        return bool(self.messages) and (bool(self.passages) or not self.spec.sources)


@dataclass(frozen=True)
class CheckedAnswer:
    """An answer of which every citation was checked. `guardrails` counts what the checks removed."""

    text: str
    language: str
    known: bool
    sentences: tuple[Sentence, ...]
    citations: tuple[Citation, ...]
    guardrails: Mapping[str, Any]


def prepare(
    spec: AssistantSpec,
    question: str,
    *,
    prompt: Prompt,
    search: Search | None,
    generations: Mapping[str, str],
    principals: frozenset[str],
) -> Prepared:
    """Find passages that `principals` may read and make the prompt.

    Parameters
    ----------
    search
        Needed when the assistant has sources.
    """
    language = detect(question, among=spec.languages)
    passages: tuple[Passage, ...] = ()
    if spec.sources:
        if search is None:
            raise ValueError(f"assistant {spec.name!r} has sources and no search was given")
        found = search.search(question, generations=generations, principals=principals, k=RETRIEVED)
        passages = tuple(collapse(found))
    if spec.engine == EXTRACTIVE:
        given = "\x1f".join([question, *(passage.text for passage in passages)])
        digest = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()
        return Prepared(spec, question, language, passages, (), digest)
    passages = passages[:_IN_PROMPT]
    messages = render(prompt, question=question, passages=passages, schema=spec.answer_schema)
    return Prepared(spec, question, language, passages, messages, prompt_digest(messages))


def check(prepared: Prepared, reply: str | None, *, select: Select, recheck: Recheck) -> CheckedAnswer:
    """Keep of `reply` what is supported.

    Parameters
    ----------
    reply
        What the generator said; None when it was not asked (extractive engine, or nothing found).
    select
        The extractive engine.
    recheck
        Called for every cited chunk as the last thing before returning.
    """
    spec = prepared.spec
    if not spec.sources:
        return _check_unsourced(prepared, reply or "")
    if spec.answer_schema is not None and reply is not None:
        return _check_structured(prepared, reply, recheck)
    if reply is None:
        citations = _extract(prepared, select)
        unsupported = 0
    else:
        grounded = ground(reply, prepared.passages)
        citations, unsupported = list(grounded.citations), grounded.unsupported
    kept = _recheck(citations, recheck)
    guardrails = {"unsupported": unsupported, "dropped_quotes": len(citations) - len(kept)}
    if not kept:
        return _unknown(prepared, guardrails)
    sentences = tuple(Sentence(citation.quote, (citation.n,)) for citation in kept)
    return CheckedAnswer(joined(sentences), prepared.language, True, sentences, kept, guardrails)


def joined(sentences: Sequence[Sentence]) -> str:
    """The text of an answer: its sentences, each followed by the numbers of its citations."""
    return " ".join(" ".join([sentence.text, *(f"[{n}]" for n in sentence.citations)]) for sentence in sentences)


def _extract(prepared: Prepared, select: Select) -> list[Citation]:
    if prepared.messages:
        return []  # a generator's assistant with nothing found
    places = [
        (passage, start, end)
        for passage in prepared.passages
        for start, end in passage_sentences(passage)
        if not _is_heading(passage, passage.text[start - passage.start : end - passage.start])
    ]
    texts = [passage.text[start - passage.start : end - passage.start] for passage, start, end in places]
    excerpts = [Excerpt(text, passage.title, passage.heading) for text, (passage, _, _) in zip(texts, places, strict=True)]
    chosen = dict.fromkeys(texts[index] for index in select(prepared.question, excerpts))
    return [cite(*places[texts.index(text)], n=n) for n, text in enumerate(chosen, 1)]


def _is_heading(passage: Passage, text: str) -> bool:
    """Whether `text` is the title or a heading: it repeats the question better than any answer, and answers nothing."""
    return text in {passage.title, *passage.heading.split(" > ")}


def _check_structured(prepared: Prepared, reply: str, recheck: Recheck) -> CheckedAnswer:
    schema = prepared.spec.answer_schema or {}
    value = parse_reply(reply)
    wrong = ["no JSON object"] if value is None else problems(value, schema)
    citations: list[Citation] = []
    if not wrong:
        for quoted in _values(value):
            for passage in prepared.passages:
                span = locate(quoted, passage)
                if span is not None:
                    citations.append(cite(passage, *span, n=len(citations) + 1))
                    break
    kept = _recheck(citations, recheck)
    foreign = [] if wrong else foreign_links(canonical(value, schema), [citation.quote for citation in kept])
    guardrails = {"schema": wrong[:5], "dropped_quotes": len(citations) - len(kept), "foreign_links": len(foreign)}
    if not kept or foreign:
        return _unknown(prepared, guardrails)
    text = canonical(value, schema)
    return CheckedAnswer(text, prepared.language, True, (Sentence(text, tuple(c.n for c in kept)),), kept, guardrails)


def _check_unsourced(prepared: Prepared, reply: str) -> CheckedAnswer:
    schema = prepared.spec.answer_schema
    if schema is None:
        text = without_foreign_links(reply, [prepared.question]).strip()
        if not text:
            return _unknown(prepared, {"unsupported": 0})
        return CheckedAnswer(text, prepared.language, False, (Sentence(text),), (), {"unsupported": 1})
    value = parse_reply(reply)
    wrong = ["no JSON object"] if value is None else problems(value, schema)
    foreign = [] if wrong else foreign_links(canonical(value, schema), [prepared.question])
    guardrails = {"schema": wrong[:5], "foreign_links": len(foreign)}
    if wrong or foreign:
        return _unknown(prepared, guardrails)
    citations = tuple(evidence(value, schema, prepared.question))
    text = canonical(value, schema)
    return CheckedAnswer(text, prepared.language, bool(citations), (Sentence(text, tuple(c.n for c in citations)),), citations, guardrails)


def _values(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, Mapping):
        return [text for inner in value.values() for text in _values(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _values(inner)]
    return []


def _recheck(citations: Sequence[Citation], recheck: Recheck) -> tuple[Citation, ...]:
    current = {citation.chunk_id: recheck(citation.chunk_id) for citation in citations if citation.chunk_id is not None}
    kept = [citation for citation in citations if still_holds(citation, current.get(citation.chunk_id or ""))]
    return tuple(replace(citation, n=n) for n, citation in enumerate(kept, 1))


def _unknown(prepared: Prepared, guardrails: Mapping[str, Any]) -> CheckedAnswer:
    text = dont_know(prepared.language, searched=bool(prepared.spec.sources))
    return CheckedAnswer(text, prepared.language, False, (Sentence(text),), (), guardrails)
