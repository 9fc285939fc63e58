"""This engine, with its ledger in SQLite and its rows in LanceDB: one sync of one folder.

python -m tests.benchmarks.index.engines.ours --state DIR --docs DIR --out FILE
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lancedb
from numpy.typing import NDArray
from sqlalchemy import event

from affinage.blobs.folder import FolderBlobs
from affinage.database.engine import Database
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.index.builds import serving_generations
from affinage.index.cache import VectorCache
from affinage.index.clients import IndexClients
from affinage.index.stores.lancedb import LanceStore
from affinage.index.sync import sync_source
from affinage.wiring import random_id, utc_now
from tests.benchmarks.index.embedder import DIMENSIONS, MeteredEmbedder
from tests.benchmarks.index.meter import Meter, arguments

_WRITES = re.compile(r"(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)")


class _Embedder:
    """The metered embedder as the platform knows one."""

    dimensions = DIMENSIONS
    max_tokens = 256
    fingerprint = f"metered-{DIMENSIONS}"

    def __init__(self, metered: MeteredEmbedder) -> None:
        self._metered = metered

    def count_tokens(self, text: str) -> int:
        return len(text) // 4 + 2

    def embed(self, texts: Sequence[str]) -> NDArray[Any]:
        return self._metered.embed(texts)


def ledger_rows(database: Database) -> Counter[str]:
    """Rows that statements wrote, by table; grows as they run."""
    written: Counter[str] = Counter()

    def count(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        found = _WRITES.match(statement)
        if found and cursor.rowcount > 0:
            written[found.group(1)] += cursor.rowcount

    event.listen(database.engine, "after_cursor_execute", count)
    return written


def store_commits(folder: Path) -> int:
    """Versions that the tables of the store have had: one for each commit."""
    connection = lancedb.connect(str(folder)) if folder.exists() else None
    return sum(connection.open_table(name).version for name in connection.list_tables().tables) if connection else 0


def main() -> None:
    given = arguments(__doc__)
    database = Database(f"sqlite:///{given.state / 'affinage.db'}")
    database.migrate()
    files = sorted(path.relative_to(given.docs).as_posix() for path in given.docs.rglob("*.md"))
    access = [{"match": path, "allow": ["group:hr"]} for path in files[: given.restricted]]
    declared = {"sources": [{"name": "corpus", "path": str(given.docs), "access": [*access, {"match": "**", "allow": ["everyone"]}]}]}
    with database.write() as connection:
        apply_declarations(connection, parse_declarations(declared, folder=given.state, origin="benchmark"), now=utc_now())
    metered = MeteredEmbedder(given.cost)
    embedder = _Embedder(metered)
    store, cache = LanceStore(given.state / "vectors"), VectorCache(given.state / "vector-cache.db")
    clients = IndexClients(
        database=database, store=store, cache=cache, blobs=FolderBlobs(given.state / "blobs"), embedder_of=lambda _: embedder,
        now=utc_now, new_id=random_id,
    )  # fmt: skip
    commits = store_commits(given.state / "vectors")
    rows = ledger_rows(database)
    meter = Meter(metered)
    with meter.running():
        report = sync_source(clients, "corpus")
    counted = {name: number for name, number in rows.items() if name != "lease"}
    with database.read() as connection:
        generation = serving_generations(connection, ["corpus"])["corpus"]
    meter.write(
        given.out,
        status=report.status,
        chunks=vars(report.chunks),
        documents=vars(report.documents),
        ledger_rows=sum(counted.values()),
        ledger_rows_by_table=counted,
        store_rows_written=report.chunks.written + report.chunks.patched + report.chunks.deleted,
        vector_rows_written=report.chunks.written,
        store_commits=store_commits(given.state / "vectors") - commits,
        rows=store.count(generation),
    )
    cache.close()
    database.close()


if __name__ == "__main__":
    main()
