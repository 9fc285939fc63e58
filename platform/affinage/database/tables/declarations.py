"""Sources and assistants as declared in YAML."""

from sqlalchemy import Column, ForeignKey, String, Table

from affinage.database.tables.base import Instant, Json, metadata

source = Table(
    "source", metadata,
    Column("name", String, primary_key=True),
    Column("organisation", ForeignKey("organisation.name"), nullable=False),
    Column("spec", Json, nullable=False),
    Column("applied_at", Instant, nullable=False),
    # Set by `apply --prune` while documents still refer to the source; declaring it again clears it.
    Column("removed_at", Instant),
)

assistant = Table(
    "assistant", metadata,
    Column("name", String, primary_key=True),
    Column("organisation", ForeignKey("organisation.name"), nullable=False),
    Column("spec", Json, nullable=False),
    Column("applied_at", Instant, nullable=False),
)
