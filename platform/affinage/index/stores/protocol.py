"""What a vector store promises. One table for each generation; rows are named, so every write can be repeated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Row:
    """One chunk as the store holds it. `vector` has length 1; `tokens` are in reading order, repeated as they occur."""

    row_id: str
    chunk_id: str
    doc_key: str
    allow: tuple[str, ...]
    tokens: tuple[str, ...]
    vector: NDArray[np.float32]


@dataclass(frozen=True)
class VectorHit:
    """A row near the query; `similarity` is the cosine."""

    row_id: str
    chunk_id: str
    similarity: float


@dataclass(frozen=True)
class LexicalHit:
    """A row that holds a token of the query."""

    row_id: str
    chunk_id: str
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Rights:
    """Which rows a query may see: those that allow one of `principals`, and those of `documents`.

    `documents` are keys of documents whose rights were widened and whose rows do not say so yet.
    """

    principals: frozenset[str]
    documents: frozenset[str] = frozenset()


class VectorStore(Protocol):
    """Rows by generation. What was written is found by the next query, from any process."""

    @property
    def fingerprint(self) -> str:
        """Metric, index and schema: another value means that rows must be written again."""

    def ensure(self, generation: str, *, dimensions: int) -> None:
        """Create the generation's table unless it exists."""

    def upsert(self, generation: str, rows: Sequence[Row]) -> None:
        """Write rows by `row_id`; the same rows again change nothing."""

    def delete(self, generation: str, row_ids: Collection[str]) -> None:
        """Remove rows by name; absent ones are fine."""

    def patch_allow(self, generation: str, doc_keys: Collection[str], allow: Sequence[str]) -> None:
        """Set the principals of all rows of these documents, and touch nothing else."""

    def vector_search(self, generation: str, vector: NDArray[np.float32], *, rights: Rights, limit: int) -> list[VectorHit]:
        """The nearest rows within the rights, best first; exact. All of them when there are fewer than `limit`."""

    def lexical_candidates(self, generation: str, tokens: Sequence[str], *, rights: Rights, limit: int) -> list[LexicalHit]:
        """Rows within the rights that hold one of `tokens`.

        When there are more than `limit`, rows with an earlier token are preferred: give the rarest first.
        """

    def scan(self, generation: str) -> Iterator[Row]:
        """Every row, also those that carry a name twice. Principals come in the form `stored_principals` gives."""

    def stored_principals(self, allow: Iterable[str]) -> tuple[str, ...]:
        """The form in which `scan` shows `allow`, sorted."""

    def count(self, generation: str) -> int:
        """Number of rows; 0 when there is no table."""

    def generations(self) -> list[str]:
        """Generations that have a table, sorted."""

    def drop(self, generation: str) -> None:
        """Remove the generation's table; absent is fine."""

    def maintain(self, generation: str) -> None:
        """Compact what many small writes left behind; safe to skip."""
