"""All that is kept of one user, for that user: what they asked, what they said, and what it became."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from affinage.database.tables.answers import answer
from affinage.database.tables.datasets import dataset_row
from affinage.feedback.listing import list_feedback
from affinage.lineage.forget import affected

_SHOWN = (
    answer.c.answer_id, answer.c.assistant, answer.c.messages, answer.c.question, answer.c.text, answer.c.language, answer.c.known,
    answer.c.citations, answer.c.regenerates, answer.c.created_at,
)  # fmt: skip


def export_user(connection: Connection, *, user: str) -> dict[str, Any]:
    """The keys of `affinage user export`; the last two name what `forget` would taint."""
    answers = connection.execute(select(*_SHOWN).where(answer.c.user_name == user).order_by(answer.c.created_at, answer.c.answer_id))
    rows = connection.execute(select(dataset_row).where(dataset_row.c.user_name == user).order_by(dataset_row.c.dataset_id)).mappings()
    would = affected(connection, user=user)
    return {
        "user": user,
        "interactions": [{**row, "created_at": row["created_at"].isoformat()} for row in map(dict, answers.mappings())],
        "feedback": list_feedback(connection, user=user),
        "dataset_rows": [
            {key: row[key] for key in ("dataset_id", "example_id", "split", "answer_id", "feedback_ids", "doc_keys")} for row in rows
        ],
        "tainted_snapshots": list(would.tainted_snapshots),
        "tainted_adapters": list(would.tainted_adapters),
    }
