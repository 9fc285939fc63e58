"""Dataset snapshots and what each row came from."""

from sqlalchemy import Boolean, Column, ForeignKey, Index, String, Table

from affinage.database.tables.base import Instant, Json, metadata

dataset = Table(
    "dataset", metadata,
    Column("dataset_id", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("organisation", String, nullable=False),
    Column("assistant", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("audience", Json, nullable=False),
    Column("counts", Json, nullable=False),
    Column("rejected", Json, nullable=False),
    Column("manifest", Json, nullable=False),
    Column("blob", String, nullable=False),
    Column("tainted", Boolean, nullable=False, default=False),
    Column("created_at", Instant, nullable=False),
    Index(None, "assistant", "kind"),
)

dataset_row = Table(
    "dataset_row", metadata,
    Column("dataset_id", ForeignKey("dataset.dataset_id"), primary_key=True),
    Column("example_id", String, primary_key=True),
    Column("split", String, nullable=False),
    Column("user_name", String),
    Column("answer_id", String),
    Column("feedback_ids", Json, nullable=False),
    Column("doc_keys", Json, nullable=False),
    Column("chunk_ids", Json, nullable=False),
    Index(None, "user_name"),
    Index(None, "answer_id"),
)

# Sides are stored, not recomputed: an evaluation group never becomes training data.
split_side = Table(
    "split_side", metadata,
    Column("assistant", String, primary_key=True),
    Column("group_id", String, primary_key=True),
    Column("split", String, nullable=False),
)
