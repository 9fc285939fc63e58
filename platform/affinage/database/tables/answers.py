"""The record of each answer."""

from sqlalchemy import Boolean, Column, Float, Index, Integer, String, Table, Text

from affinage.database.tables.base import Instant, Json, metadata

answer = Table(
    "answer", metadata,
    Column("answer_id", String, primary_key=True),
    Column("organisation", String, nullable=False),
    Column("assistant", String, nullable=False),
    Column("user_name", String, nullable=False),
    # HMAC of the user with the installation's secret: the unit of experiments.
    Column("unit", String, nullable=False),
    Column("messages", Json, nullable=False),
    Column("question", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("language", String, nullable=False),
    Column("known", Boolean, nullable=False),
    # [{n, document, title, page, start, end, quote, chunk_id, doc_key}]
    Column("citations", Json, nullable=False),
    # [{chunk_id, doc_key, document, digest, rank, allow}] offered to the engine
    Column("passages", Json, nullable=False),
    Column("prompt_digest", String, nullable=False),
    Column("generations", Json, nullable=False),
    Column("variant_id", String, nullable=False),
    Column("adapter", String),
    Column("experiment_id", String),
    Column("arm", String, nullable=False),
    Column("q", Float, nullable=False),
    Column("regenerates", String),
    Column("guardrails", Json, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index(None, "assistant", "created_at"),
    Index(None, "user_name"),
    Index(None, "regenerates"),
)
