"""Connections and transactions on SQLite and PostgreSQL.

The operation owns the transaction: it opens one `write()` and hands the connection down. Reads see one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from affinage.errors import ConfigurationError, DependencyError

BUSY_TIMEOUT_SECONDS = 30
# A writer waits for another's transaction, which stays below 50 ms; 30 s covers a stopped process on a slow disk.

CONNECT_SECONDS = 10
# A server whose packets are dropped is given up then: the system would wait for two minutes, and a probe with it.

MIGRATION_LOCK = 0x0AFF1A6E
# Any number that no other program on the same PostgreSQL database uses.


class Database:
    """One database, opened lazily.

    Parameters
    ----------
    url
        SQLAlchemy URL. For SQLite the folder of the file is created.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, created at first use."""
        if self._engine is None:
            self._engine = _open(self.url)
        return self._engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection whose reads see one snapshot."""
        with _converted(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed and on disk when the block ends, rolled back when it raises."""
        with _converted(), self.engine.connect().execution_options(affinage_write=True) as connection, connection.begin():
            yield connection

    def migrate(self) -> None:
        """Bring the schema to the newest revision; a no-op when it is there."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.read() as connection:
            # A command that only reads must not wait for a writer's lock.
            if MigrationContext.configure(connection).get_current_revision() == ScriptDirectory.from_config(config).get_current_head():
                return
        with self.write() as connection:
            if connection.dialect.name == "postgresql":
                # Two processes that start at once: the second finds the work done.
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def revision(self) -> str | None:
        """The revision that the schema is at; None before the first migration."""
        with self.read() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def close(self) -> None:
        """Close every connection."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def _open(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            limit = {} if "connect_timeout" in parsed.query else {"connect_timeout": CONNECT_SECONDS}
            return create_engine(parsed, pool_pre_ping=True, connect_args=limit)
    except (ArgumentError, ValueError, ModuleNotFoundError):
        # What was raised is not shown, and not even kept as a cause: it may hold the password.
        raise ConfigurationError(
            "The setting `database_url` is not an address of PostgreSQL or SQLite.",
            hint="Write `postgresql+psycopg://USER:PASSWORD@HOST:5432/NAME`, with %40 for an @ in the password.",
        ) from None
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # Autocommit at the driver: SQLAlchemy's own BEGIN below decides the kind of transaction.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that will write takes the lock at once: upgrading later fails with "database is locked".
        write = connection.get_execution_options().get("affinage_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


@contextmanager
def _converted() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        said = " ".join(str(error.orig).split()).rstrip("?.")  # the driver writes several lines
        if "no such table" in said:
            hint = "Run `affinage doctor`: the schema may be missing."
        elif "connection" in said or "resolve host" in said:
            hint = "Check that the database is up, that `database_url` (AFFINAGE_DATABASE_URL) names it, and that its password is right."
        else:
            hint = "Try again; check that the database is up."
        raise DependencyError("database", f"The database failed: {said}.", hint=hint) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DependencyError("database", f"The database connection was lost: {error.orig}.") from error
        raise
