"""A tiny exact store in memory: what the real ones are compared with."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from affinage.index.stores.protocol import LexicalHit, Rights, Row, VectorHit


class ExactStore:
    """Rows in a dictionary, searched by brute force."""

    fingerprint = "exact/1 cosine"

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, Row]] = {}
        self._lock = threading.Lock()

    def ensure(self, generation: str, *, dimensions: int) -> None:
        """Create the table; any length of vector fits."""
        del dimensions
        self._tables.setdefault(generation, {})

    def upsert(self, generation: str, rows: Sequence[Row]) -> None:
        """Put the rows."""
        with self._lock:
            self._tables.setdefault(generation, {}).update({row.row_id: row for row in rows})

    def delete(self, generation: str, row_ids: Collection[str]) -> None:
        """Pop the rows."""
        with self._lock:
            for row_id in row_ids:
                self._tables.get(generation, {}).pop(row_id, None)

    def patch_allow(self, generation: str, doc_keys: Collection[str], allow: Sequence[str]) -> None:
        """Replace the principals of the documents' rows."""
        wanted = set(doc_keys)
        with self._lock:
            table = self._tables.get(generation, {})
            table.update({name: replace(row, allow=tuple(allow)) for name, row in table.items() if row.doc_key in wanted})

    def vector_search(self, generation: str, vector: NDArray[np.float32], *, rights: Rights, limit: int) -> list[VectorHit]:
        """Compare with every visible row; ties by chunk."""
        rows = self._visible(generation, rights)
        if not rows:
            return []
        similarities = np.stack([row.vector for row in rows]) @ vector
        order = sorted(range(len(rows)), key=lambda i: (-float(similarities[i]), rows[i].chunk_id))
        return [VectorHit(rows[i].row_id, rows[i].chunk_id, float(similarities[i])) for i in order[:limit]]

    def lexical_candidates(self, generation: str, tokens: Sequence[str], *, rights: Rights, limit: int) -> list[LexicalHit]:
        """Look into every visible row."""
        rank = {token: position for position, token in reversed(list(enumerate(tokens)))}
        holding = [row for row in self._visible(generation, rights) if rank.keys() & row.tokens]
        found = sorted(((min(rank[t] for t in row.tokens if t in rank), row) for row in holding), key=lambda pair: pair[0])
        return [LexicalHit(row.row_id, row.chunk_id, row.tokens) for _, row in found[:limit]]

    def scan(self, generation: str) -> Iterator[Row]:
        """All rows, in no promised order."""
        with self._lock:
            rows = list(self._tables.get(generation, {}).values())
        yield from rows

    def stored_principals(self, allow: Iterable[str]) -> tuple[str, ...]:
        """As they are."""
        return tuple(sorted(allow))

    def count(self, generation: str) -> int:
        """Number of rows."""
        return len(self._tables.get(generation, {}))

    def generations(self) -> list[str]:
        """Names of the tables."""
        return sorted(self._tables)

    def drop(self, generation: str) -> None:
        """Forget the table."""
        self._tables.pop(generation, None)

    def maintain(self, generation: str) -> None:
        """Nothing to compact."""

    def _visible(self, generation: str, rights: Rights) -> list[Row]:
        with self._lock:
            rows = list(self._tables.get(generation, {}).values())
        return [row for row in rows if row.doc_key in rights.documents or not rights.principals.isdisjoint(row.allow)]
