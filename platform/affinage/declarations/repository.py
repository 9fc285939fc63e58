"""What is declared now, from the database."""

from __future__ import annotations

from sqlalchemy import Connection, select

from affinage.database.tables import declarations as tables
from affinage.declarations.model import AssistantSpec, SourceSpec, source_spec
from affinage.errors import UnknownObjectError


def get_source(connection: Connection, name: str) -> SourceSpec:
    """The declared source `name`."""
    row = connection.execute(select(tables.source.c.spec).where(tables.source.c.name == name, tables.source.c.removed_at.is_(None))).first()
    if row is None:
        raise UnknownObjectError("source", name, hint="Declare it in YAML and run `affinage apply -f FILE`.")
    return source_spec(row.spec)


def list_sources(connection: Connection) -> list[SourceSpec]:
    """All declared sources, by name."""
    rows = connection.execute(select(tables.source.c.spec).where(tables.source.c.removed_at.is_(None)).order_by(tables.source.c.name))
    return [source_spec(row.spec) for row in rows]


def get_assistant(connection: Connection, name: str) -> AssistantSpec:
    """The declared assistant `name`."""
    row = connection.execute(select(tables.assistant.c.spec).where(tables.assistant.c.name == name)).first()
    if row is None:
        raise UnknownObjectError("assistant", name, hint="Declare it in YAML and run `affinage apply -f FILE`.")
    return AssistantSpec.model_validate(row.spec)


def list_assistants(connection: Connection) -> list[AssistantSpec]:
    """All declared assistants, by name."""
    rows = connection.execute(select(tables.assistant.c.spec).order_by(tables.assistant.c.name))
    return [AssistantSpec.model_validate(row.spec) for row in rows]
