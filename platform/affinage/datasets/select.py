"""Answers of one assistant that somebody judged, with what counts of the judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from affinage.database.tables.answers import answer
from affinage.database.tables.feedback import feedback
from affinage.database.tables.registry import base, variant
from affinage.feedback.effective import Effective, effective

PACKAGED_LICENCES = {"package:smollm2": "apache-2.0"}
# Models that come with our packages; their licence is in the package's metadata.

_COLUMNS = (
    answer.c.answer_id, answer.c.user_name, answer.c.unit, answer.c.question, answer.c.text, answer.c.language, answer.c.citations,
    answer.c.passages, answer.c.variant_id, answer.c.regenerates,
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """One answer (columns of its record) and what its user says of it now."""

    answer: Mapping[str, Any]
    said: Effective


def judged_answers(connection: Connection, *, assistant: str) -> list[Judged]:
    """Every answer of the assistant that has feedback, by answer id."""
    of_assistant = select(feedback).join(answer, answer.c.answer_id == feedback.c.answer_id).where(answer.c.assistant == assistant)
    said = effective(dict(row) for row in connection.execute(of_assistant).mappings())
    has_feedback = select(feedback.c.answer_id)
    rows = connection.execute(select(*_COLUMNS).where(answer.c.assistant == assistant, answer.c.answer_id.in_(has_feedback))).mappings()
    found = []
    for row in rows:
        opinion = said.get((row["user_name"], row["answer_id"]))
        if opinion is not None:
            found.append(Judged(dict(row), opinion))
    return sorted(found, key=lambda judged: str(judged.answer["answer_id"]))


def answer_texts(connection: Connection, *, assistant: str, user_of: Mapping[str, str]) -> dict[str, str]:
    """Texts of the answers in `user_of` (answer id to its user) that are this assistant's and that user's."""
    rows = connection.execute(
        select(answer.c.answer_id, answer.c.user_name, answer.c.text).where(
            answer.c.assistant == assistant, answer.c.answer_id.in_(list(user_of))
        )
    )
    return {row.answer_id: row.text for row in rows if user_of[row.answer_id] == row.user_name}


def engines_of_variants(connection: Connection, *, assistant: str) -> dict[str, str]:
    """Engine name by variant id."""
    rows = connection.execute(select(variant.c.variant_id, variant.c.spec).where(variant.c.assistant == assistant))
    return {row.variant_id: str(row.spec.get("engine", "")) for row in rows}


def engine_licences(connection: Connection) -> dict[str, str]:
    """Licence by engine: the packaged models and the registered bases."""
    registered = {row.name: row.licence for row in connection.execute(select(base.c.name, base.c.licence))}
    return {**PACKAGED_LICENCES, **registered}
