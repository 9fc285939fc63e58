"""Documents in the rows of a database, PostgreSQL or SQLite, by a declared query.

Every statement runs in a read-only transaction and under a time limit. The database sorts: by code points, whatever its
collation. Where no column tells whether a row changed, it also digests the content, so that a listing carries none.
"""

from __future__ import annotations

import hashlib
import html
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    Text,
    bindparam,
    cast,
    collate,
    column,
    create_engine,
    event,
    func,
    literal,
    make_url,
    null,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.types import NullType

from affinage.declarations.model import SqlSpec
from affinage.documents.extraction.dispatch import too_large
from affinage.documents.extraction.limits import MAX_BYTES
from affinage.documents.sources.granted import principals_of
from affinage.documents.sources.listed import Listed, Signature, in_order, is_before
from affinage.errors import ConfigurationError, DependencyError, DocumentError

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 60
# Of one statement, or of one step of a cursor.
ROWS_AT_A_TIME = 1000
ZONES = timedelta(hours=14)
# A time without its zone may be that far ahead of UTC.
_STEPS = 20_000
# Of SQLite's machine between two looks at the clock: some milliseconds.


@dataclass(frozen=True)
class RowSignature:
    """What a row's version column holds, or the digest of its content.

    `changed_at` is the version when that is a time: another change may follow within the clock's grain.
    """

    version: str | None
    digest: str | None
    changed_at: datetime | None = None

    def as_json(self) -> dict[str, str]:
        """For a JSON column."""
        return {"version": self.version} if self.version is not None else {"digest": self.digest or ""}

    def is_settled(self, scan_started_ns: int) -> bool:
        """Whether no change can follow that leaves it as it is; a time without zone is taken for the latest it may be."""
        if self.changed_at is None:
            return True
        latest = self.changed_at if self.changed_at.tzinfo is not None else self.changed_at.replace(tzinfo=UTC) + ZONES
        return is_before(int(latest.timestamp()) * 1_000_000_000 + latest.microsecond * 1000, scan_started_ns)


class Connections:
    """Engines of the databases that operators name, each opened once.

    Parameters
    ----------
    urls
        SQLAlchemy URL by name. They hold passwords: nothing of them is ever shown.
    """

    def __init__(self, urls: Mapping[str, str], *, statement_seconds: float = STATEMENT_SECONDS) -> None:
        self._urls = urls
        self._statement_seconds = statement_seconds
        self._engines: dict[str, Engine] = {}

    def engine(self, name: str) -> Engine:
        """The engine of connection `name`.

        Raises
        ------
        ConfigurationError
            If no operator set it, or it is no address of PostgreSQL or SQLite.
        """
        if name not in self._engines:
            if name not in self._urls:
                raise ConfigurationError(
                    f"There is no connection `{name}`.",
                    hint=f"Set AFFINAGE_CONNECTION_{name.upper()} to its SQLAlchemy URL where syncs run.",
                    name=name,
                )
            self._engines[name] = _open(name, self._urls[name], statement_seconds=self._statement_seconds)
        return self._engines[name]

    def close(self) -> None:
        """Close every connection."""
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()


def _open(name: str, url: str, *, statement_seconds: float) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql":
            limit = {} if "connect_timeout" in parsed.query else {"connect_timeout": CONNECT_SECONDS}
            engine = create_engine(parsed, pool_pre_ping=True, pool_size=2, connect_args=limit)
            return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True, affinage_seconds=statement_seconds)
        if parsed.get_backend_name() != "sqlite" or not parsed.database:
            raise ValueError(parsed.get_backend_name())
        # `mode=ro`: a file that is not there is an error, and is not made.
        engine = create_engine(f"sqlite:///file:{quote(parsed.database)}?mode=ro&uri=true", connect_args={"check_same_thread": False})
    except (ArgumentError, ValueError, ModuleNotFoundError):
        # What was raised is not shown, and not even kept as a cause: it may hold the password.
        raise ConfigurationError(
            f"Connection `{name}` is not an address of PostgreSQL or SQLite.",
            hint="Write `postgresql+psycopg://USER:PASSWORD@HOST:5432/NAME` or `sqlite:////FOLDER/FILE`.",
        ) from None

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver begins no transaction for a SELECT; the one below does
        connection.execute("PRAGMA query_only=ON")
        connection.create_function("affinage_sha256", 2, _sha256, deterministic=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine.execution_options(affinage_seconds=statement_seconds)


def _sha256(title: object, content: object) -> str:
    digest = hashlib.sha256()
    for part in (title, content):
        digest.update(part if isinstance(part, bytes) else str("" if part is None else part).encode("utf-8", "surrogateescape"))
        digest.update(b"\x1f")
    return digest.hexdigest()


class SqlSource:
    """The rows of a query; a row's path is its key and a suffix.

    Raises
    ------
    ConfigurationError
        If no operator set the connection that `spec` names.
    """

    def __init__(self, spec: SqlSpec, connections: Connections) -> None:
        self._spec = spec
        self._engine = connections.engine(spec.connection)
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        given = spec.columns.model_dump(exclude_none=True)
        # A colon would be taken for a parameter, and a comment at the end for the rest of the statement.
        query = text(spec.query.rstrip().rstrip(";").replace(":", "\\:") + "\n")
        rows = query.columns(*(column(name, NullType()) for name in dict.fromkeys(given.values()))).subquery("declared")
        self._columns: dict[str, ColumnElement[Any]] = {use: rows.c[name] for use, name in given.items()}

    def listing(self) -> Iterator[Listed]:
        """Every row without its content, as `Source.listing` promises."""
        return in_order("sql", self._rows())

    def _rows(self) -> Iterator[Listed]:
        path = self._path()
        order = collate(path, "BINARY" if self._is_sqlite else "C")
        query = select(path.label("path"), self._version().label("version"), self._column("rights").label("rights")).order_by(order)
        with self._reading("it cannot be listed") as connection:
            self._start_clock(connection)
            found = connection.execution_options(stream_results=True, max_row_buffer=ROWS_AT_A_TIME).execute(query)
            while rows := self._some(connection, found):
                for row in rows:
                    if row.path is None:
                        hint = "Leave rows without key or suffix out of the query."
                        raise DependencyError("sql", f"{self._spec.place}: a row has no key.", hint=hint, retryable=False)
                    granted = principals_of(row.rights) if self._spec.carries_rights else None
                    yield Listed(row.path, self._signature(row.version), granted)

    def _some(self, connection: Connection, found: Any) -> list[Any]:
        self._start_clock(connection)
        rows: list[Any] = found.fetchmany(ROWS_AT_A_TIME)
        return rows

    def read(self, path: str, *, listed: Signature | None = None) -> bytes:
        """The content of the row at `path`, with its title above a text, as `Source.read` promises."""
        key = path.removesuffix(self._spec.suffix) if "suffix" not in self._columns else path.removesuffix(PurePosixPath(path).suffix)
        size = func.length(self._content()) if self._is_sqlite else func.octet_length(self._content())
        columns = (self._column("title").label("title"), self._version().label("version"), size.label("size"))
        content = self._content().label("content")
        with self._reading(f"`{path}` cannot be read") as connection:
            row = self._find(connection, select(*columns), key)
            if row is None:
                raise _unreadable(path, "it is gone")
            if (row.size or 0) > MAX_BYTES:
                raise too_large(path, row.size)
            if self._spec.carries_rights and listed is not None and self._signature(row.version).as_json() != listed.as_json():
                raise _unreadable(path, "it changed after it was listed")
            found = self._find(connection, select(content), key)
        data = _bytes(None if found is None else found.content)
        if len(data) > MAX_BYTES:
            raise too_large(path, len(data))
        return _titled(row.title, self._spec.suffix) + data if row.title is not None and "text" in self._columns else data

    def _find(self, connection: Connection, query: Select[Any], key: str) -> Any:
        """The row with this key, by its index if it has one; what the database would not compare with a text is made one."""
        self._start_clock(connection)
        given = bindparam("key", key, type_=NullType())
        try:
            with connection.begin_nested():
                found = connection.execute(query.where(self._columns["key"] == given)).first()
        except (DataError, ProgrammingError):
            found = None
        return found or connection.execute(query.where(cast(self._columns["key"], Text) == given)).first()

    def _path(self) -> ColumnElement[Any]:
        suffix = literal(self._spec.suffix, Text)
        given = func.coalesce(cast(self._columns["suffix"], Text), suffix) if "suffix" in self._columns else suffix
        return cast(self._columns["key"], Text).op("||")(given)

    def _column(self, use: str) -> ColumnElement[Any]:
        return self._columns.get(use, null())

    def _content(self) -> ColumnElement[Any]:
        return self._columns["text"] if "text" in self._columns else self._columns["blob"]

    def _version(self) -> ColumnElement[Any]:
        if "version" in self._columns:
            return self._columns["version"]
        if self._is_sqlite:
            return func.affinage_sha256(self._column("title"), self._content())
        if "blob" in self._columns:
            return func.encode(func.sha256(self._content()), "hex")
        parts = func.coalesce(cast(self._column("title"), Text), "").op("||")(func.chr(31)).op("||")(cast(self._content(), Text))
        return func.encode(func.sha256(func.convert_to(parts, "UTF8")), "hex")

    def _signature(self, value: Any) -> RowSignature:
        if "version" not in self._columns:
            return RowSignature(None, str(value or ""))
        return RowSignature(_written(value), None, _changed_at(value))

    @contextmanager
    def _reading(self, what: str) -> Iterator[Connection]:
        """A transaction that cannot write, whose statements end in time."""
        try:
            with self._engine.connect() as connection, connection.begin():
                if not self._is_sqlite:
                    limit = int(connection.get_execution_options()["affinage_seconds"] * 1000)
                    connection.execute(text(f"SET LOCAL statement_timeout = {limit}"))
                yield connection
        except SQLAlchemyError as error:
            lost = isinstance(error, OperationalError) or (isinstance(error, DBAPIError) and error.connection_invalidated)
            # The driver's first line: what follows quotes the statement and its values.
            reason = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
            raise DependencyError(
                "sql",
                f"{self._spec.place}: {what}: {reason}",
                hint="Check that the server runs, that the query works by itself and that the user may read its tables.",
                retryable=lost,
            ) from None

    def _start_clock(self, connection: Connection) -> None:
        """SQLite has no time limit of its own."""
        if self._is_sqlite:
            until = time.monotonic() + connection.get_execution_options()["affinage_seconds"]
            driver: Any = connection.connection.driver_connection
            driver.set_progress_handler(lambda: time.monotonic() > until, _STEPS)


def _changed_at(value: Any) -> datetime | None:
    """The latest time that a version may stand for, None when it is no time; SQLite keeps times as text."""
    if value is None:
        return datetime.max.replace(tzinfo=UTC)  # it tells nothing: the row is read each time
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) <= len("2026-01-31") else datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value + timedelta(days=1), datetime.min.time())
    return value if isinstance(value, datetime) else None


def _written(value: Any) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat()  # the server shows it in the zone of the session
    return bytes(value).hex() if isinstance(value, (bytes, memoryview, bytearray)) else str(value)


def _bytes(value: Any) -> bytes:
    if value is None:
        return b""
    return bytes(value) if isinstance(value, (bytes, memoryview, bytearray)) else str(value).encode("utf-8", "surrogatepass")


def _titled(title: Any, suffix: str) -> bytes:
    line = " ".join(str(title).split())
    if not line:
        return b""
    written = {".md": f"# {line}\n\n", ".txt": f"{line}\n\n", ".html": f"<h1>{html.escape(line)}</h1>\n"}[suffix.lower()]
    return written.encode("utf-8", "surrogatepass")


def _unreadable(path: str, why: str) -> DocumentError:
    return DocumentError(path, "unreadable", f"{path} cannot be read: {why}.", hint="Check the row; the next sync tries again.")
