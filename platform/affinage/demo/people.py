"""The simulated users: who they are, and the stated, seeded model of what they like.

The product knows nothing of this module: it sees ratings and corrections only, as from anybody. Every probability is a
constant here, so that the demo's figures can be read against what was put in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from affinage.demo.calls import Call
from affinage.demo.corpus.reading import demo_subjects
from affinage.demo.questions import Question
from affinage.scoring.field_f1 import field_f1

P_SILENT = 0.06
# Share of answers that an agent leaves without any judgement.
P_UP_WHEN_RIGHT = 0.95
# An answer that cites the right sentence is rated up; otherwise the agent says nothing.
P_CORRECT_WHEN_WRONG = 0.9
# After a wrong answer the agent quotes the right sentence; otherwise only rates it down.
P_UP_AT_NOTHING_RIGHT, P_UP_PER_FIELD_F1 = 0.05, 0.9
# An extraction is rated up with probability 0.05 + 0.9 x field F1: some like a wrong one, some dislike a perfect one.
MIN_SHARED_CHARS = 20
# A quote that overlaps the sentence by less shows only its last word or two.


@dataclass(frozen=True)
class Agent:
    """A member of the administration; `documents` are what their questions are about."""

    name: str
    service: str
    groups: tuple[str, ...]
    documents: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """What an agent says about one answer; `rating` None and no correction: nothing."""

    rating: Literal["up", "down"] | None
    correction: str | None = None

    @property
    def silent(self) -> bool:
        """Whether nothing is to be submitted."""
        return self.rating is None and self.correction is None


def agents() -> tuple[Agent, ...]:
    """Those who ask `guichet`, one a subject; no document belongs to two of them."""
    return tuple(
        Agent(subject.person, subject.service, subject.groups, tuple(document.key for document in subject.documents))
        for subject in demo_subjects()
        if any(document.asked for document in subject.documents)
    )


def cites(question: Question, citations: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a citation (with keys `document` and `quote`) shows the sentence that answers, or overlaps it."""
    return any(
        citation["document"] == question.document and _overlap(citation["quote"], question.answer_sentence) for citation in citations
    )


def rate_answer(rng: np.random.Generator, person: str, question: Question, citations: Iterable[Mapping[str, Any]]) -> Judgement:
    """What `person` says about the answer that shows `citations`.

    Parameters
    ----------
    rng
        The demo's own generator; two numbers are drawn on every call, so that one judgement never shifts another.
    person
        Must be the question's user: nobody judges answers to someone else.
    citations
        As the answer gives them; only `document` and `quote` are read.
    """
    if person != question.user:
        raise ValueError(f"{person!r} cannot judge an answer to {question.user!r}")
    silent, kind = rng.random(2)
    if silent < P_SILENT:
        return Judgement(None)
    if cites(question, citations):
        return Judgement("up" if kind < P_UP_WHEN_RIGHT else None)
    return Judgement("down", question.answer_sentence if kind < P_CORRECT_WHEN_WRONG else None)


def review_extraction(rng: np.random.Generator, call: Call, answered: object) -> Judgement:
    """What a call's agent says about the JSON read from an answer: up when all of it is right, else the right JSON.

    Parameters
    ----------
    answered
        The parsed object, or None when the answer was not JSON.
    """
    silent = rng.random()
    if field_f1(answered, dict(call.expected)) == 1.0:
        return Judgement(None if silent < P_SILENT else "up")
    # A wrong record would be filed: nobody leaves it, so that each agent's calls all become examples.
    return Judgement("down", call.expected_json())


def rate_extraction(rng: np.random.Generator, expected: Mapping[str, Any], answered: object) -> Literal["up", "down"]:
    """One thumb, up with probability 0.05 + 0.9 x field F1 of `answered` (None when it was not JSON)."""
    score = field_f1(answered, dict(expected))
    return "up" if rng.random() < P_UP_AT_NOTHING_RIGHT + P_UP_PER_FIELD_F1 * score else "down"


def _overlap(quote: str, sentence: str) -> bool:
    shown, wanted = " ".join(quote.split()), " ".join(sentence.split())
    if not shown:
        return False
    if shown in wanted or wanted in shown:
        return len(shown) >= min(MIN_SHARED_CHARS, len(wanted))
    # Cut in the middle: the end of one is the beginning of the other.
    return any(a.endswith(b[:size]) for a, b in ((shown, wanted), (wanted, shown)) for size in range(MIN_SHARED_CHARS, len(b)))
