"""Recorded answers, as serving stores them, without serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from affinage.answers.records import Answer, save_answer
from affinage.database.tables.declarations import assistant as assistant_table
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import AssistantSpec, Declarations

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def declare(connection: Connection, *specs: AssistantSpec) -> None:
    """Store assistants without sources."""
    apply_declarations(connection, Declarations(assistants=specs), now=AT)
    assert connection.execute(assistant_table.select()).first() is not None


def record(
    connection: Connection,
    answer_id: str,
    *,
    user: str = "alice",
    assistant: str = "guichet",
    question: str = "How long is the delay?",
    text: str = "Ten days.",
    passages: Sequence[Mapping[str, Any]] = (),
    citations: Sequence[Mapping[str, Any]] = (),
    generations: Mapping[str, str] | None = None,
    variant_id: str = "v1",
    regenerates: str | None = None,
    language: str = "en",
    at: datetime = AT,
) -> Answer:
    """Store one answer and return it."""
    answer = Answer(
        answer_id=answer_id,
        organisation="default",
        assistant=assistant,
        user_name=user,
        unit=f"unit-{user}",
        messages=[{"role": "user", "content": question}],
        question=question,
        text=text,
        language=language,
        known=True,
        citations=list(citations),
        passages=list(passages),
        prompt_digest="p",
        generations=dict(generations or {}),
        variant_id=variant_id,
        adapter=None,
        experiment_id=None,
        arm="control",
        q=0.0,
        regenerates=regenerates,
        guardrails={},
        input_tokens=1,
        output_tokens=1,
        seconds=0.1,
        created_at=at,
    )
    save_answer(connection, answer)
    return answer
