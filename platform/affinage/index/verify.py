"""Compare the store with the ledger row by row, and put right what differs.

A lost or altered row is written again with the vector from the cache, so a wiped store is rebuilt without embedding
anything. Runs under the source's lease: a sync in progress is waited for, not mistaken for damage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from affinage.declarations.repository import list_sources
from affinage.documents.chunking import split
from affinage.engines.protocols import Embedder
from affinage.index import extracts, ledger
from affinage.index.builds import Generation, list_generations, open_embedder
from affinage.index.cache import Vector
from affinage.index.clients import IndexClients
from affinage.index.embedding import vectors_for
from affinage.index.identity import embed_hash
from affinage.index.leases import Lease, hold
from affinage.index.revisions import purge, recover, row_tokens
from affinage.index.stores.protocol import Row
from affinage.index.upkeep import lease_name, patch_rights, waiting

COMPARED_ROWS = 2_000
# Rows compared with the cache at a time.


@dataclass
class VerifyReport:
    """Rows by what was wrong: the store lacks them, nobody refers to them, or they hold something else."""

    missing: int = 0
    orphaned: int = 0
    stale: int = 0
    repaired: int = 0
    embedded: int = 0

    @property
    def found(self) -> int:
        """All rows that were wrong."""
        return self.missing + self.orphaned + self.stale

    def as_dict(self) -> dict[str, int]:
        """The keys of `affinage index verify --json`."""
        return asdict(self)


@dataclass
class _Differences:
    """Of one generation. `doubled` rows are there more than once."""

    missing: set[str] = field(default_factory=set)
    orphaned: set[str] = field(default_factory=set)
    doubled: set[str] = field(default_factory=set)
    stale: set[str] = field(default_factory=set)


def verify(clients: IndexClients, *, sources: Sequence[str] | None = None, repair: bool = False) -> VerifyReport:
    """Check every generation of `sources` (default: all declared), and tables that no generation owns.

    Parameters
    ----------
    repair
        Also write what is missing or stale, remove what is orphaned, and forget cached vectors of texts that are gone.
    """
    report = VerifyReport()
    with clients.database.read() as connection:
        names = list(sources) if sources is not None else [spec.name for spec in list_sources(connection)]
    for name in names:
        with hold(clients.database, lease_name(name), now=clients.now, on_wait=waiting(clients, name)) as lease:
            with clients.database.read() as connection:
                generations = list_generations(connection, name)
            for generation in generations:
                verify_generation(clients, lease, generation, report, repair=repair)
            if repair:
                purge(clients, lease, generation_ids=[g.generation_id for g in generations])
    if sources is None:
        _verify_rest(clients, report, repair=repair)
    return report


def verify_generation(clients: IndexClients, lease: Lease, generation: Generation, report: VerifyReport, *, repair: bool) -> None:
    """Check one generation under its source's lease, and add to `report`."""
    name = generation.generation_id
    if repair:
        # What a killed run left is damage too; counted here, removed with the rest.
        settled = recover(clients, generation_ids=[name])
        report.orphaned += settled
        report.repaired += settled
    with clients.database.read() as connection:
        chunks = {stored.row_id: stored for stored in ledger.stored_chunks(connection, generation_id=name)}
        allow = ledger.stored_allow(connection, name)
    clients.progress(f"{generation.source}: comparing {len(chunks)} rows of generation {name}")
    found = _compare(clients, generation, chunks, allow)
    report.missing += len(found.missing)
    report.orphaned += len(found.orphaned) + len(found.doubled)
    report.stale += len(found.stale)
    if not repair:
        return
    clients.store.delete(name, found.orphaned | found.doubled)
    rewritten = [chunks[row_id] for row_id in sorted(found.missing | found.doubled | found.stale)]
    report.embedded += _rewrite(clients, generation, rewritten, allow)
    report.repaired += len(found.missing) + len(found.orphaned) + len(found.doubled) + len(found.stale)
    patch_rights(clients, lease, generation_ids=[name])


def _compare(
    clients: IndexClients, generation: Generation, chunks: Mapping[str, ledger.Stored], allow: Mapping[str, tuple[str, ...] | None]
) -> _Differences:
    found = _Differences()
    seen: set[str] = set()
    for rows in _grouped(clients.store.scan(generation.generation_id)):
        expected = [chunks[row.row_id] for row in rows if row.row_id in chunks]
        vectors = clients.cache.get(generation.fingerprint["embed"], {stored.embed_hash for stored in expected})
        for row in rows:
            stored = chunks.get(row.row_id)
            if stored is None:
                found.orphaned.add(row.row_id)
            elif row.row_id in seen:
                found.doubled.add(row.row_id)
            elif not _agrees(clients, row, stored, vectors.get(stored.embed_hash), allow.get(stored.doc_key)):
                found.stale.add(row.row_id)
            seen.add(row.row_id)
    found.stale -= found.doubled
    found.missing = chunks.keys() - seen
    return found


def _agrees(clients: IndexClients, row: Row, stored: ledger.Stored, vector: Vector | None, allow: tuple[str, ...] | None) -> bool:
    # Rights that a sync has not written yet are no damage: then `allow` is None.
    right = allow is None or row.allow == clients.store.stored_principals(allow)
    same = vector is None or np.array_equal(row.vector, vector)
    return (
        right
        and same
        and (row.chunk_id, row.doc_key) == (stored.chunk_id, stored.doc_key)
        and row.tokens == row_tokens(stored.heading, stored.text)
    )


def _rewrite(
    clients: IndexClients, generation: Generation, rows: Sequence[ledger.Stored], allow: Mapping[str, tuple[str, ...] | None]
) -> int:
    """Write rows as the ledger describes them; returns how many texts had to be embedded."""
    embedded = 0
    if not rows:
        return embedded
    embedder: Embedder | None = None
    for some in ledger.parts(rows):
        vectors = clients.cache.get(generation.fingerprint["embed"], {stored.embed_hash for stored in some})
        lacking = [stored for stored in some if stored.embed_hash not in vectors]
        if lacking:
            embedder = embedder or open_embedder(clients, generation)
            texts = _embed_texts(clients, generation, embedder, lacking)
            fresh, count = vectors_for(texts, embedder=embedder, cache=clients.cache)
            vectors.update(fresh)
            embedded += count
        clients.store.ensure(generation.generation_id, dimensions=len(next(iter(vectors.values()))))
        clients.store.upsert(generation.generation_id, [_row(stored, vectors[stored.embed_hash], allow) for stored in some])
    return embedded


def _row(stored: ledger.Stored, vector: Vector, allow: Mapping[str, tuple[str, ...] | None]) -> Row:
    # Unknown rights: nobody, until the patch that follows.
    label = allow.get(stored.doc_key) or ()
    return Row(stored.row_id, stored.chunk_id, stored.doc_key, label, row_tokens(stored.heading, stored.text), vector)


def _embed_texts(clients: IndexClients, generation: Generation, embedder: Embedder, lacking: Sequence[ledger.Stored]) -> dict[str, str]:
    """The exact strings to embed, from the extracts: the ledger keeps only what is quoted."""
    wanted = {stored.embed_hash for stored in lacking}
    texts: dict[str, str] = {}
    with clients.database.read() as connection:
        revisions = ledger.revisions(connection, generation_id=generation.generation_id, doc_keys={s.doc_key for s in lacking})
    for revision in revisions.values():
        content, _ = extracts.load(clients.blobs, revision.extract_hash)
        for chunk in split(content, count_tokens=embedder.count_tokens, max_tokens=embedder.max_tokens):
            digest = embed_hash(chunk.embed_text)
            if digest in wanted:
                texts[digest] = chunk.embed_text
    return texts


def _verify_rest(clients: IndexClients, report: VerifyReport, *, repair: bool) -> None:
    with clients.database.read() as connection:
        owned = {g.generation_id for g in list_generations(connection)}
    for name in clients.store.generations():
        if name not in owned:
            rows = clients.store.count(name)
            report.orphaned += rows
            if repair:
                clients.store.drop(name)
                report.repaired += rows
    if repair:
        digests = clients.cache.digests()
        with clients.database.read() as connection:
            unused = digests - ledger.referenced_texts(connection, digests)
        clients.cache.remove(unused)


def _grouped(rows: Iterator[Row]) -> Iterator[Collection[Row]]:
    group: list[Row] = []
    for row in rows:
        group.append(row)
        if len(group) >= COMPARED_ROWS:
            yield group
            group = []
    if group:
        yield group
