"""The record of each answer: what was asked, shown, and used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from affinage.database.tables.answers import answer as table
from affinage.errors import UnknownObjectError


@dataclass(frozen=True)
class Answer:
    """One reply under its unguessable id, with everything that led to it.

    `citations` holds the keys of `Citation`; `passages` what the engine was offered, as {chunk_id, doc_key, document,
    digest, rank, allow}; `guardrails` the counts and refusals of the checks.
    """

    answer_id: str
    organisation: str
    assistant: str
    user_name: str
    unit: str
    messages: Sequence[Mapping[str, Any]]
    question: str
    text: str
    language: str
    known: bool
    citations: Sequence[Mapping[str, Any]]
    passages: Sequence[Mapping[str, Any]]
    prompt_digest: str
    generations: Mapping[str, str]
    variant_id: str
    adapter: str | None
    experiment_id: str | None
    arm: str
    q: float
    regenerates: str | None
    guardrails: Mapping[str, Any]
    input_tokens: int
    output_tokens: int
    seconds: float
    created_at: datetime


def save_answer(connection: Connection, answer: Answer) -> None:
    """Store a new answer."""
    connection.execute(insert(table).values(**asdict(answer)))


def find_answer(connection: Connection, answer_id: str) -> Answer | None:
    """The answer, or None."""
    row = connection.execute(select(table).where(table.c.answer_id == answer_id)).mappings().first()
    return None if row is None else Answer(**{name: row[name] for name in Answer.__dataclass_fields__})


def get_answer(connection: Connection, answer_id: str) -> Answer:
    """The answer.

    Raises
    ------
    UnknownObjectError
        If there is none.
    """
    found = find_answer(connection, answer_id)
    if found is None:
        raise UnknownObjectError("answer", answer_id, hint="Answer ids are printed by `affinage ask`.")
    return found
