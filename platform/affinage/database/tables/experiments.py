"""Experiments, who was in which arm, and every decision with its inputs."""

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, String, Table, text

from affinage.database.tables.base import Instant, Json, metadata

experiment = Table(
    "experiment", metadata,
    Column("experiment_id", String, primary_key=True),
    Column("assistant", String, nullable=False),
    Column("layer", String, nullable=False),
    Column("state", String, nullable=False),
    # Compare-and-swap: each transition raises it by one.
    Column("version", BigInteger, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("config", Json, nullable=False),
    Column("control_variant", String, nullable=False),
    Column("candidate_variant", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    # At most one experiment of an assistant has not ended, whoever starts a second one at the same moment.
    Index(
        "uq_experiment_assistant_live", "assistant", unique=True,
        sqlite_where=text("ended_at IS NULL"), postgresql_where=text("ended_at IS NULL"),
    ),
)

# One row for each unit and stage: its first use of an arm, with the probability it was drawn with.
exposure = Table(
    "exposure", metadata,
    Column("experiment_id", ForeignKey("experiment.experiment_id"), primary_key=True),
    Column("unit", String, primary_key=True),
    Column("stage", Integer, primary_key=True),
    Column("arm", String, nullable=False),
    Column("q", Float, nullable=False),
    Column("answer_id", String, nullable=False),
    Column("created_at", Instant, nullable=False),
)

decision = Table(
    "decision", metadata,
    Column("decision_id", String, primary_key=True),
    Column("experiment_id", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("from_state", String, nullable=False),
    Column("to_state", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("inputs", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index(None, "experiment_id", "version"),
)
