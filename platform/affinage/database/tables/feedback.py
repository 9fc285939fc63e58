"""What users said of answers. Append-only: a later submission supersedes, it never overwrites."""

from sqlalchemy import Column, ForeignKey, Index, String, Table, Text, UniqueConstraint

from affinage.database.tables.base import Instant, Json, metadata

feedback = Table(
    "feedback", metadata,
    Column("feedback_id", String, primary_key=True),
    Column("answer_id", ForeignKey("answer.answer_id"), nullable=False),
    Column("user_name", String, nullable=False),
    Column("rating", String),
    Column("reasons", Json, nullable=False),
    Column("comment", Text),
    Column("correction", Text),
    # The sibling answer that this one was preferred over.
    Column("preferred_over", String),
    Column("ranking", Json),
    Column("spans", Json),
    # user | regeneration | import
    Column("origin", String, nullable=False),
    Column("idempotency_key", String),
    Column("body_digest", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("user_name", "idempotency_key"),
    Index(None, "answer_id"),
    Index(None, "user_name"),
)
