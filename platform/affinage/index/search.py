"""Find passages for a question, under the reader's rights.

Vectors and words, each within the rights inside the store's query, fused by rank; then the guard: a row counts only if
the ledger names it as current and its document may be read now. A list that the guard shortened is searched on, so a
short list never tells of hidden documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from affinage.database.engine import Database
from affinage.errors import ConflictError
from affinage.identity.rights import may_read
from affinage.index import ledger
from affinage.index.builds import Generation, list_generations
from affinage.index.clients import EmbedderOf
from affinage.index.lexical import query_tokens, score
from affinage.index.passages import Passage
from affinage.index.stores.protocol import Rights, VectorStore

CANDIDATES = 1_000
# Lexical candidates within the rights.
DEPTH = 50
# Each list's length before fusion, at least; five times k when that is more.
RANK_CONSTANT = 60
# Of reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009).
ATTEMPTS = 4
# A search that meets a document while it is being replaced looks again: by then the new rows are current.

Ranked = list[Passage]


@dataclass(frozen=True)
class _Found:
    """Rows of one list that passed the guard: similarity and passage by row.

    `outdated`: rows were dropped as not current. `whole`: these are all there are.
    """

    rows: dict[str, tuple[float, Passage]]
    outdated: bool
    whole: bool


class Searcher:
    """Search over the generations that a variant names.

    Parameters
    ----------
    embedder_of
        Gives the embedder that a generation names.
    """

    def __init__(self, database: Database, store: VectorStore, embedder_of: EmbedderOf) -> None:
        self._database = database
        self._store = store
        self._embedder_of = embedder_of

    def search(self, query: str, *, generations: Mapping[str, str], principals: frozenset[str], k: int) -> list[Passage]:
        """The `k` best passages for `query`, best first; fewer only when fewer may be read.

        Parameters
        ----------
        generations
            Source to generation. Empty: nothing is found.

        Returns
        -------
        list of Passage
            Without duplicates. The same call gives the same order while nothing changes.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if not generations or not query.strip():
            return []
        with self._database.read() as connection:
            wanted = set(generations.values())
            opened = [g for g in list_generations(connection) if g.generation_id in wanted]
        vectors = self._query_vectors(query, opened)
        words = query_tokens(query)
        depth = max(DEPTH, 5 * k)
        found: Ranked = []
        for _ in range(ATTEMPTS):
            lists, outdated = self._lists(opened, vectors, words, principals, depth)
            found = _fuse(lists)[:k]
            if not outdated:
                break
        return found

    def _query_vectors(self, query: str, generations: Sequence[Generation]) -> dict[str, NDArray[np.float32]]:
        vectors: dict[str, NDArray[np.float32]] = {}
        for generation in generations:
            expected = generation.fingerprint["embed"]
            if expected in vectors:
                continue
            embedder = self._embedder_of(generation.embedder)
            if embedder.fingerprint != expected:
                raise ConflictError(
                    f"The embedder of source `{generation.source}` is not the one its index was built with.",
                    hint=f"Build a new generation: `affinage index rebuild {generation.source}`.",
                )
            vectors[expected] = np.asarray(embedder.embed([query]), dtype=np.float32)[0]
        return vectors

    def _lists(
        self,
        generations: Sequence[Generation],
        vectors: Mapping[str, NDArray[np.float32]],
        words: Sequence[str],
        principals: frozenset[str],
        depth: int,
    ) -> tuple[list[Ranked], bool]:
        """One list for each embedder, since only their own similarities compare, and one of words over all."""
        rights = self._rights(generations, principals)
        outdated = False
        by_embedder: dict[str, list[tuple[float, Passage]]] = {}
        by_words: list[tuple[float, Passage]] = []
        for generation in generations:
            embed = generation.fingerprint["embed"]
            name = generation.generation_id
            near = self._searched_on(name, principals, depth, partial(self._near, name, vectors[embed], rights))
            by_embedder.setdefault(embed, []).extend(near.rows.values())
            outdated |= near.outdated
            if words:
                held = self._searched_on(name, principals, CANDIDATES, partial(self._holding, name, words, rights))
                by_words.extend(held.rows.values())
                # A row that all rows lacked a moment ago: its document was replaced, or opened to this reader, between the two lists.
                outdated |= held.outdated or (near.whole and not held.rows.keys() <= near.rows.keys())
        return [_ranked(scored, depth) for scored in (*by_embedder.values(), by_words)], outdated

    def _near(self, generation: str, vector: NDArray[np.float32], rights: Rights, limit: int) -> dict[str, float]:
        return {hit.row_id: hit.similarity for hit in self._store.vector_search(generation, vector, rights=rights, limit=limit)}

    def _holding(self, generation: str, words: Sequence[str], rights: Rights, limit: int) -> dict[str, float]:
        hits = self._store.lexical_candidates(generation, words, rights=rights, limit=limit)
        return {hit.row_id: score(words, hit.tokens) for hit in hits}

    def _searched_on(self, generation: str, principals: frozenset[str], wanted: int, search: Callable[[int], dict[str, float]]) -> _Found:
        """At least `wanted` rows that pass the guard, or all there are."""
        limit = wanted
        while True:
            hits = search(limit)
            # After the store was asked: what the store gave is judged by a ledger at least as new.
            with self._database.read() as connection:
                guarded = ledger.guard(connection, generation_id=generation, row_ids=list(hits), principals=principals)
            whole = len(hits) < limit
            if len(guarded.visible) >= wanted or whole:
                return _Found({row: (hits[row], passage) for row, passage in guarded.visible.items()}, guarded.outdated, whole)
            limit *= 4

    def _rights(self, generations: Sequence[Generation], principals: frozenset[str]) -> Rights:
        """What to ask the store for: also documents whose rights were widened and whose rows do not say so yet."""
        with self._database.read() as connection:
            pending = ledger.pending_rights(connection, [g.generation_id for g in generations])
        return Rights(principals, frozenset(doc_key for _, doc_key, allow in pending if may_read(principals, allow)))


def _ranked(scored: Iterable[tuple[float, Passage]], depth: int) -> Ranked:
    ordered = sorted(scored, key=lambda pair: (-pair[0], pair[1].chunk_id))
    return [passage for _, passage in ordered[:depth]]


def _fuse(lists: Sequence[Ranked]) -> Ranked:
    scores: dict[str, float] = {}
    passages: dict[str, Passage] = {}
    for ranked in lists:
        for rank, passage in enumerate(ranked, start=1):
            scores[passage.chunk_id] = scores.get(passage.chunk_id, 0.0) + 1.0 / (RANK_CONSTANT + rank)
            passages[passage.chunk_id] = passage
    order = sorted(scores, key=lambda chunk: (-scores[chunk], chunk))
    return [replace(passages[chunk], score=scores[chunk]) for chunk in order]
