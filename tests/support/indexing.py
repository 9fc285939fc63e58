"""A folder, its declaration and everything an index run needs, with crashes on request and an independent oracle."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import event, select

from affinage.blobs.folder import FolderBlobs
from affinage.database.engine import Database
from affinage.database.tables.index import chunk, document, document_revision, intent
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.identity.rights import reader
from affinage.index import lexical
from affinage.index.cache import VectorCache
from affinage.index.clients import IndexClients
from affinage.index.generations import serving_generations
from affinage.index.passages import Passage
from affinage.index.reports import SyncReport
from affinage.index.search import Searcher
from affinage.index.stores.exact import ExactStore
from affinage.index.stores.protocol import Row, VectorStore
from affinage.index.sync import sync_source
from tests.conftest import Clock
from tests.support.embedders import HashEmbedder

READERS: tuple[tuple[str, tuple[str, ...]], ...] = (("alice", ()), ("bob", ("hr",)), ("carol", ("hr", "law")))


class Crash(BaseException):
    """The process ends here. Not an Exception: no handler may survive it."""


class World:
    """One installation with one folder source, `handbook`. `declared`: it is there already, and only opened."""

    def __init__(
        self,
        folder: Path,
        *,
        store: VectorStore | None = None,
        template: Path | None = None,
        declared: bool = False,
        database_url: str | None = None,
    ) -> None:
        self.folder = folder
        self.docs = folder / "docs"
        self.docs.mkdir(parents=True, exist_ok=True)
        if template is not None:
            shutil.copy(template, folder / "affinage.db")
        self.database = Database(database_url or f"sqlite:///{folder / 'affinage.db'}")
        if self.database.engine.dialect.name == "sqlite":
            # These crashes end a process and not the machine: nothing that was written can be lost.
            event.listen(self.database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        if template is None and not declared:
            self.database.migrate()
        self.store = store if store is not None else ExactStore()
        self.cache = VectorCache(folder / "cache.db")
        self.blobs = FolderBlobs(folder / "blobs")
        self.embedder = HashEmbedder()
        self.embedders: dict[str, HashEmbedder] = {"package:minilm": self.embedder}
        self.clock = Clock()
        counter = itertools.count(1)
        self.new_id: Callable[[], str] = lambda: f"id-{next(counter):06d}"
        self.rules: list[dict[str, Any]] = [{"match": "**", "allow": ["everyone"]}]
        self.crash_after: int | None = None
        self.crash_at: str | None = None
        self.steps: list[str] = []
        if not declared:
            self.declare()

    # What people do

    def declare(self, **changes: Any) -> None:
        raw = {
            "sources": [{"name": "handbook", "path": str(self.docs), "access": self.rules, **changes}],
            "assistants": [{"name": "guichet", "sources": ["handbook"]}],
        }
        declared = parse_declarations(raw, folder=self.folder, origin="test")
        with self.database.write() as connection:
            apply_declarations(connection, declared, now=self.clock())

    def allow(self, *rules: tuple[str, Sequence[str]]) -> None:
        self.rules = [{"match": match, "allow": list(allow)} for match, allow in rules]
        self.declare()

    def write(self, path: str, text: str) -> None:
        file = self.docs / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def remove(self, path: str) -> None:
        (self.docs / path).unlink()

    def rename(self, old: str, new: str) -> None:
        (self.docs / new).parent.mkdir(parents=True, exist_ok=True)
        (self.docs / old).rename(self.docs / new)

    # What the program does

    def clients(self, **changes: Any) -> IndexClients:
        fields: dict[str, Any] = {
            "database": self.database,
            "store": self.store,
            "cache": self.cache,
            "blobs": self.blobs,
            "embedder_of": self.embedder_of,
            "now": self.clock,
            "new_id": self.new_id,
            "reached": self._reached,
        }
        return IndexClients(**{**fields, **changes})

    def embedder_of(self, spec: Mapping[str, Any]) -> HashEmbedder:
        return self.embedders[spec["name"]]

    def _reached(self, step: str) -> None:
        self.steps.append(step)
        if self.crash_at == step:
            raise Crash(step)
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after < 0:
                raise Crash(step)

    def sync(self, **options: Any) -> SyncReport:
        return sync_source(self.clients(), "handbook", **options)

    def crash(self, *, at: str | None = None, after: int | None = None, **options: Any) -> bool:
        """Sync and crash at a step; False when the run ended before it."""
        self.crash_at, self.crash_after = at, after
        try:
            self.sync(**options)
        except Crash:
            return True
        finally:
            self.crash_at = self.crash_after = None
        return False

    def searcher(self) -> Searcher:
        return Searcher(self.database, self.store, self.embedder_of)

    def search(self, query: str, *, user: str = "alice", groups: Sequence[str] = (), k: int = 10) -> list[Passage]:
        with self.database.read() as connection:
            generations = serving_generations(connection, ["handbook"])
        return self.searcher().search(query, generations=generations, principals=reader(user, groups).principals, k=k)

    def close(self) -> None:
        self.cache.close()
        self.database.close()

    # What must hold

    def generation(self) -> str:
        with self.database.read() as connection:
            return serving_generations(connection, ["handbook"])["handbook"]

    def _serving(self) -> list[str]:
        with self.database.read() as connection:
            return list(serving_generations(connection, ["handbook"]).values())

    def rows(self) -> list[Row]:
        return [row for name in self._serving() for row in self.store.scan(name)]

    def contents(self) -> list[tuple[Any, ...]]:
        """All that a reader could tell apart, without names that only this installation gives."""
        rows = {row.row_id: row for row in self.rows()}
        assert len(rows) == len(self.rows()), "a row is there twice"
        query = select(chunk, document.c.path, document.c.allow).join(document, document.c.doc_key == chunk.c.doc_key)
        query = query.where(chunk.c.generation_id.in_(self._serving()))
        found = []
        with self.database.read() as connection:
            for c in connection.execute(query):
                row = rows.pop(c.row_id)
                assert (row.chunk_id, row.doc_key) == (c.chunk_id, c.doc_key)
                assert row.allow == self.store.stored_principals(c.allow)
                found.append(
                    (c.path, c.ordinal, c.start, c.end, c.page, c.heading, c.text, tuple(c.allow), row.tokens, row.vector.tobytes())
                )
            assert not connection.execute(select(intent)).all(), "an intent is left"
        assert not rows, "the store holds rows that the ledger does not"
        return sorted(found)

    def check(self, *, template: Path | None = None) -> None:
        """Store, ledger, caches and searches against a cold index of the folder as it is."""
        contents = self.contents()
        cold = World(self.folder / "cold", template=template)
        try:
            shutil.rmtree(cold.docs)
            shutil.copytree(self.docs, cold.docs)
            cold.rules = self.rules
            cold.declare()
            cold.sync()
            assert contents == cold.contents()
        finally:
            cold.close()
            shutil.rmtree(cold.folder)
        self.check_caches()
        self.check_search()

    def check_caches(self) -> None:
        with self.database.read() as connection:
            hashes = set(connection.execute(select(document_revision.c.extract_hash)).scalars())
            texts = set(connection.execute(select(chunk.c.embed_hash)).scalars())
        folder = self.folder / "blobs" / "extracts"
        # A process that is killed while it writes an extract leaves the part it wrote under a name that nothing reads.
        extracts = {file.stem for file in folder.iterdir() if not file.name.startswith(".part-")} if folder.exists() else set()
        assert extracts == hashes
        assert texts <= self.cache.digests()

    def check_search(self, query: str = "the annual leave of a worker in march") -> None:
        for user, groups in READERS:
            principals = reader(user, groups).principals
            expected = self.oracle(query, principals)
            assert [p.chunk_id for p in self.search(query, user=user, groups=groups, k=10)] == expected[:10]
            assert {p.chunk_id for p in self.search(query, user=user, groups=groups, k=500)} == set(expected)

    def oracle(self, query: str, principals: frozenset[str]) -> list[str]:
        """The ranking by brute force over the ledger: both lists whole, then reciprocal rank fusion."""
        query_rows = select(chunk, document.c.allow).join(document, document.c.doc_key == chunk.c.doc_key)
        with self.database.read() as connection:
            rows = connection.execute(query_rows.where(chunk.c.generation_id.in_(self._serving()))).all()
        visible = [row for row in rows if principals & set(row.allow)]
        if not visible:
            return []
        rows_by_id = {row.row_id: row for row in self.rows()}
        vector = HashEmbedder().embed([query])[0]
        near = {row.chunk_id: float(np.dot(rows_by_id[row.row_id].vector, vector)) for row in visible}
        words = lexical.query_tokens(query)
        held = {row.chunk_id: lexical.score(words, lexical.tokens(f"{row.heading}\n{row.text}")) for row in visible}
        fused: dict[str, float] = {}
        for scores, keep in ((near, near), (held, {name for name, value in held.items() if value > 0})):
            ranked = sorted(keep, key=lambda name: (-round(scores[name], 5), name))
            for rank, name in enumerate(ranked[:50], start=1):
                fused[name] = fused.get(name, 0.0) + 1 / (60 + rank)
        return sorted(fused, key=lambda name: (-fused[name], name))
