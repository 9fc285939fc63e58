"""Read stored submissions, oldest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select

from affinage.database.tables.answers import answer
from affinage.database.tables.feedback import feedback
from affinage.feedback.submit import public_row


def list_feedback(
    connection: Connection, *, assistant: str | None = None, user: str | None = None, answer_id: str | None = None, limit: int | None = None
) -> list[dict[str, Any]]:
    """Submissions with the keys of `feedback list`, superseded ones included.

    Parameters
    ----------
    limit
        Only the newest so many, still oldest first.
    """
    query = select(feedback)
    if assistant is not None:
        query = query.join(answer, answer.c.answer_id == feedback.c.answer_id).where(answer.c.assistant == assistant)
    if user is not None:
        query = query.where(feedback.c.user_name == user)
    if answer_id is not None:
        query = query.where(feedback.c.answer_id == answer_id)
    query = query.order_by(feedback.c.created_at.desc(), feedback.c.feedback_id.desc())
    if limit is not None:
        query = query.limit(limit)
    return [public_row(row) for row in reversed(connection.execute(query).mappings().all())]


def stream_feedback(connection: Connection, *, assistant: str | None = None) -> Iterator[dict[str, Any]]:
    """All submissions one by one, oldest first, without holding them in memory."""
    query = select(feedback)
    if assistant is not None:
        query = query.join(answer, answer.c.answer_id == feedback.c.answer_id).where(answer.c.assistant == assistant)
    query = query.order_by(feedback.c.created_at, feedback.c.feedback_id).execution_options(yield_per=500)
    for row in connection.execute(query).mappings():
        yield public_row(row)
