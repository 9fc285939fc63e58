"""LanceDB, a folder: the store of one machine.

Principals are kept as short hashes and tokens hold only letters and digits, so no value from outside ever enters a filter
expression as text. Searches are flat, hence exact, and see what was written at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinage.errors import DependencyError
from affinage.index.stores.principals import principal_hash, stored_principals
from affinage.index.stores.protocol import LexicalHit, Rights, Row, VectorHit

NAMES_PER_FILTER = 1_000
SCAN_ROWS = 4_096
WRITES_BETWEEN_MAINTENANCE = 20
KEEP_VERSIONS = timedelta(minutes=10)
# A reader in another process may still be on an older version of the table.


class LanceStore:
    """The tables of one folder.

    Parameters
    ----------
    folder
        Created at first use. Several processes may read and write it at once.
    """

    fingerprint = "lancedb/1 cosine flat"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connection: Any = None
        self._tables: dict[str, Any] = {}
        self._lock = threading.Lock()

    def ensure(self, generation: str, *, dimensions: int) -> None:
        """Create the table with `row_id` as its key: else two writers of a new key would both insert it."""
        if self._table(generation) is not None:
            return
        with _converted(f"create the table of generation `{generation}`"):
            table = self._connect().create_table(_name(generation), schema=_schema(dimensions), exist_ok=True)
            if not table.schema.field("row_id").metadata:
                table.set_unenforced_primary_key("row_id")

    def upsert(self, generation: str, rows: Sequence[Row]) -> None:
        """Merge by `row_id` in one commit."""
        if not rows:
            return
        table = self._require(generation)
        with self._using(generation, "write to"):
            data = _arrow(rows, table.schema)
            table.merge_insert("row_id").when_matched_update_all().when_not_matched_insert_all().execute(data)

    def delete(self, generation: str, row_ids: Collection[str]) -> None:
        """Delete by name."""
        table = self._table(generation)
        if table is None:
            return
        with self._using(generation, "remove rows of"):
            for part in _parts(row_ids):
                table.delete(f"row_id IN ({part})")

    def patch_allow(self, generation: str, doc_keys: Collection[str], allow: Sequence[str]) -> None:
        """Update one column."""
        table = self._table(generation)
        if table is None:
            return
        with self._using(generation, "change rights in"):
            for part in _parts(doc_keys):
                table.update(where=f"doc_key IN ({part})", values={"allow": list(self.stored_principals(allow))})

    def vector_search(self, generation: str, vector: NDArray[np.float32], *, rights: Rights, limit: int) -> list[VectorHit]:
        """Flat search over the rows that pass the filter."""
        table = self._table(generation)
        if table is None:
            return []
        with self._using(generation, "search"):
            query = table.search(vector, vector_column_name="vector").distance_type("dot").where(_filter(rights), prefilter=True)
            found = query.select(["row_id", "chunk_id", "_distance"]).limit(limit).to_arrow()
        hits = [
            VectorHit(row, chunk, 1.0 - distance)
            for row, chunk, distance in zip(*(found.column(c).to_pylist() for c in ("row_id", "chunk_id", "_distance")), strict=True)
        ]
        return sorted(hits, key=lambda hit: (-hit.similarity, hit.chunk_id))

    def lexical_candidates(self, generation: str, tokens: Sequence[str], *, rights: Rights, limit: int) -> list[LexicalHit]:
        """One filtered scan for each token, the first ones first, until there are enough."""
        table = self._table(generation)
        found: dict[str, LexicalHit] = {}
        if table is None or not tokens:
            return []
        with self._using(generation, "search"):
            # Most queries match fewer rows than the limit: then one scan for all tokens is enough.
            every = self._holding(table, tokens, rights, limit + 1)
            if len(every) <= limit:
                return every
            for token in tokens:
                for hit in self._holding(table, [token], rights, limit):
                    found.setdefault(hit.row_id, hit)
                if len(found) >= limit:
                    break
        return list(found.values())[:limit]

    @staticmethod
    def _holding(table: Any, tokens: Sequence[str], rights: Rights, limit: int) -> list[LexicalHit]:
        condition = f"array_has_any(tokens, [{_literals(tokens)}]) AND ({_filter(rights)})"
        found = table.search().where(condition).select(["row_id", "chunk_id", "tokens"]).limit(limit).to_arrow()
        columns = [found.column(c).to_pylist() for c in ("row_id", "chunk_id", "tokens")]
        return [LexicalHit(row, chunk, tuple(held)) for row, chunk, held in zip(*columns, strict=True)]

    def scan(self, generation: str) -> Iterator[Row]:
        """All rows in batches."""
        table = self._table(generation)
        if table is None:
            return
        with self._using(generation, "read"):
            for batch in table.search().to_batches(SCAN_ROWS):
                size = batch.num_rows
                vectors = batch.column("vector").flatten().to_numpy(zero_copy_only=False).reshape(size, -1)
                names = [batch.column(c).to_pylist() for c in ("row_id", "chunk_id", "doc_key", "allow", "tokens")]
                for i, (row, chunk, doc, allow, tokens) in enumerate(zip(*names, strict=True)):
                    yield Row(row, chunk, doc, tuple(sorted(allow)), tuple(tokens), vectors[i])

    def stored_principals(self, allow: Iterable[str]) -> tuple[str, ...]:
        """Their hashes."""
        return stored_principals(allow)

    def count(self, generation: str) -> int:
        """Count the rows."""
        table = self._table(generation)
        with self._using(generation, "count"):
            return 0 if table is None else int(table.count_rows())

    def generations(self) -> list[str]:
        """Names of the tables."""
        with _converted("list the tables"):
            names, token = [], None
            while True:
                page = self._connect().list_tables(page_token=token)
                names += page.tables
                token = page.page_token
                if not token:
                    return sorted(name.removeprefix("g_") for name in names)

    def drop(self, generation: str) -> None:
        """Drop the table."""
        with self._lock:
            self._tables.pop(generation, None)
        with _converted(f"drop generation `{generation}`"):
            self._connect().drop_table(_name(generation), ignore_missing=True)

    def maintain(self, generation: str) -> None:
        """Compact when some twenty writes have come together; old versions stay ten minutes for readers."""
        table = self._table(generation)
        if table is None:
            return
        with self._using(generation, "compact"):
            if table.stats()["fragment_stats"]["num_small_fragments"] >= WRITES_BETWEEN_MAINTENANCE:
                table.optimize(cleanup_older_than=KEEP_VERSIONS)

    def _connect(self) -> Any:
        with self._lock:
            if self._connection is None:
                # Its native part writes a warning for each table it creates.
                os.environ.setdefault("LANCE_LOG", "error")
                import lancedb  # noqa: PLC0415 - 2.5 s and 200 MB: only when the store is used

                self._connection = lancedb.connect(str(self._folder), read_consistency_interval=timedelta(0))
            return self._connection

    def _table(self, generation: str) -> Any:
        table = self._tables.get(generation)
        if table is None:
            with _converted(f"open generation `{generation}`"):
                connection = self._connect()
                try:
                    table = connection.open_table(_name(generation))
                except ValueError as error:
                    if "not found" in str(error):
                        return None
                    raise
            with self._lock:
                self._tables[generation] = table
        return table

    @contextmanager
    def _using(self, generation: str, doing: str) -> Iterator[None]:
        try:
            with _converted(f"{doing} generation `{generation}`"):
                yield
        except DependencyError:
            # Another process may have dropped or replaced it: the next call looks again.
            with self._lock:
                self._tables.pop(generation, None)
            raise

    def _require(self, generation: str) -> Any:
        table = self._table(generation)
        if table is None:
            raise DependencyError("lancedb", f"Generation `{generation}` has no table.", hint="Run `affinage index verify --repair`.")
        return table


def _name(generation: str) -> str:
    if not generation.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"not a generation id: {generation!r}")
    return f"g_{generation}"


def _schema(dimensions: int) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - heavy

    return pa.schema(
        [
            # A key may not be nullable.
            pa.field("row_id", pa.string(), nullable=False),
            pa.field("chunk_id", pa.string()),
            pa.field("doc_key", pa.string()),
            pa.field("allow", pa.list_(pa.string())),
            pa.field("tokens", pa.list_(pa.string())),
            pa.field("vector", pa.list_(pa.float32(), dimensions)),
        ]
    )


def _arrow(rows: Sequence[Row], schema: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - heavy

    # One name once: a merge refuses a source with the same key twice.
    unique = list({row.row_id: row for row in rows}.values())
    vectors = np.stack([row.vector for row in unique]).astype(np.float32, copy=False)
    columns = {
        "row_id": [row.row_id for row in unique],
        "chunk_id": [row.chunk_id for row in unique],
        "doc_key": [row.doc_key for row in unique],
        "allow": [list(stored_principals(row.allow)) for row in unique],
        "tokens": [list(row.tokens) for row in unique],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
    }
    plain = pa.schema([pa.field(field.name, field.type, nullable=field.nullable) for field in schema])
    return pa.table(columns, schema=plain)


def _filter(rights: Rights) -> str:
    names = sorted(principal_hash(p) for p in rights.principals) or [""]
    condition = f"array_has_any(allow, [{_literals(names)}])"
    if rights.documents:
        condition += f" OR doc_key IN ({_literals(sorted(rights.documents))})"
    return condition


def _literals(values: Iterable[str]) -> str:
    return ",".join("'" + value.replace("'", "''") + "'" for value in values)


def _parts(names: Collection[str]) -> list[str]:
    every = sorted(names)
    return [_literals(every[i : i + NAMES_PER_FILTER]) for i in range(0, len(every), NAMES_PER_FILTER)]


@contextmanager
def _converted(doing: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        # Lance raises these three for everything, from a full disk to a conflict of commits.
        raise DependencyError("lancedb", f"LanceDB could not {doing}: {error}.", hint="Check space and rights; try again.") from error
