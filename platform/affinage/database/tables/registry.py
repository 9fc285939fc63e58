"""Bases, variants, training runs, gate results, and which variant serves."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from affinage.database.tables.base import Instant, Json, metadata

base = Table(
    "base", metadata,
    Column("name", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("licence", String, nullable=False),
    Column("context_tokens", Integer, nullable=False),
    Column("chat_template", Text),
    Column("path", String, nullable=False),
    # Of each weight by name, so that adapters are checked where the weights are not; null: registered before there was this column.
    Column("shapes", Json),
    Column("model_version", String),
    Column("created_at", Instant, nullable=False),
)

variant = Table(
    "variant", metadata,
    Column("variant_id", String, primary_key=True),
    Column("organisation", String, nullable=False),
    Column("assistant", String, nullable=False),
    Column("spec", Json, nullable=False),
    Column("adapter", String),
    Column("adapter_digest", String),
    # generator | embedder: which engine the adapter belongs to.
    Column("adapter_task", String),
    Column("dataset_id", String),
    Column("run_id", String),
    Column("model_version", String),
    # The gate result (or `override:<move>`) in whose name it was countersigned.
    Column("gate_id", String),
    # Set when verification and gate passed; engines load only countersigned adapters.
    Column("countersigned_at", Instant),
    Column("countersignature", String),
    # A retired variant never serves again.
    Column("retired_at", Instant),
    Column("tainted", Boolean, nullable=False, default=False),
    Column("created_at", Instant, nullable=False),
    Index(None, "assistant"),
    Index(None, "dataset_id"),
)

training_run = Table(
    "training_run", metadata,
    Column("run_id", String, primary_key=True),
    Column("assistant", String, nullable=False),
    Column("dataset_id", String, nullable=False),
    Column("recipe", Json, nullable=False),
    # running | finished | failed
    Column("state", String, nullable=False),
    Column("folder", String, nullable=False),
    Column("mlflow_run_id", String),
    Column("variant_id", String),
    Column("metrics", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index(None, "assistant"),
)

gate_result = Table(
    "gate_result", metadata,
    Column("gate_id", String, primary_key=True),
    Column("variant_id", String, nullable=False),
    Column("control_id", String),
    Column("dataset_id", String, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("reasons", Json, nullable=False),
    Column("metrics", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index(None, "variant_id"),
)

# Which variant serves each assistant. The database orders the moves; MLflow's alias follows.
serving_pointer = Table(
    "serving_pointer", metadata,
    Column("assistant", String, primary_key=True),
    Column("variant_id", String, nullable=False),
    Column("previous_variant_id", String),
    Column("version", BigInteger, nullable=False),
    Column("moved_at", Instant, nullable=False),
)

# Our own moves, recorded before MLflow hears of them: an alias that differs from these was moved by hand.
alias_move = Table(
    "alias_move", metadata,
    Column("move_id", String, primary_key=True),
    Column("assistant", String, nullable=False),
    Column("alias", String, nullable=False),
    # None: the alias is removed.
    Column("variant_id", String),
    # default | promote | override | rollback | candidate | observed | held
    Column("kind", String, nullable=False),
    # serving_pointer.version after the move; None for an alias that serves nobody.
    Column("version", BigInteger),
    Column("actor", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("done_at", Instant),
    Index(None, "assistant", "alias"),
)

# The value of each alias when we last looked.
alias_seen = Table(
    "alias_seen", metadata,
    Column("assistant", String, primary_key=True),
    Column("alias", String, primary_key=True),
    Column("model_version", String),
    Column("seen_at", Instant, nullable=False),
)
