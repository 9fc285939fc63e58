"""Organisations, roles, groups and API keys."""

from sqlalchemy import Column, ForeignKey, Index, String, Table

from affinage.database.tables.base import Instant, metadata

organisation = Table(
    "organisation", metadata,
    Column("name", String, primary_key=True),
    Column("created_at", Instant, nullable=False),
)

role_binding = Table(
    "role_binding", metadata,
    Column("organisation", ForeignKey("organisation.name"), primary_key=True),
    Column("role", String, primary_key=True),
    Column("group_name", String, primary_key=True),
)

group_member = Table(
    "group_member", metadata,
    Column("group_name", String, primary_key=True),
    Column("user_name", String, primary_key=True),
)

api_key = Table(
    "api_key", metadata,
    Column("key_id", String, primary_key=True),
    Column("key_hash", String, nullable=False, unique=True),
    Column("user_name", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    # `source:NAME`: good for nothing but to say that this source has changed. NULL: for all that its user may do.
    Column("scope", String),
    Index(None, "user_name"),
)

# Installation secrets (for user pseudonyms), made once; epochs that tell caches to read again.
installation = Table(
    "installation", metadata,
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)
