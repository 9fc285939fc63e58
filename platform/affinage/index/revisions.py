"""Write what a generation serves of documents, so that a crash at any instant is repaired by the next run.

The order: embed and commit the vector cache → transaction A: intents for every row that may appear or must go → write
rows → transaction B: switch the documents' revisions, now visible → delete old rows → transaction C: clear the intents.
Readers take a row only if the ledger names it, so they see each document before or after B and nothing between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from affinage.documents.chunks import Chunk
from affinage.engines.protocols import Embedder
from affinage.index import extracts, ledger
from affinage.index.cache import Vector
from affinage.index.clients import IndexClients
from affinage.index.embedding import vectors_for
from affinage.index.identity import chunk_ids, embed_hash, row_id
from affinage.index.leases import Lease
from affinage.index.lexical import tokens
from affinage.index.stores.protocol import Row

ROWS_PER_TRANSACTION = 1_000
# Some 30 ms: other writers of the ledger wait for it.
BLOBS_AT_ONCE = 8
# A blob waits for the disk, or for a server: together they wait once.


@dataclass(frozen=True)
class Revision:
    """One document's new content for one generation.

    `document` holds columns of the document to write in the same transaction; empty when only the generation changes.
    `extract` is the blob to store, or None when it is there.
    """

    doc_key: str
    raw_hash: str
    extract_hash: str
    allow: tuple[str, ...]
    chunks: Sequence[Chunk]
    extract: bytes | None = None
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class ChunkCounts:
    """What happened to chunks and their rows."""

    embedded: int = 0
    reused: int = 0
    written: int = 0
    patched: int = 0
    deleted: int = 0

    def add(self, other: ChunkCounts) -> None:
        """Sum up."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class _Planned:
    """A document's chunks with their names, and which rows appear and go."""

    revision: Revision
    rows: list[dict[str, Any]]
    texts: dict[str, str]
    fresh: list[dict[str, Any]]
    gone: list[ledger.Stored]
    old_extract: str | None
    mixed_rights: bool

    def needs(self, digests: Collection[str]) -> bool:
        """Whether a row that appears is of one of these texts."""
        return any(row["embed_hash"] in digests for row in self.fresh)


def write_revisions(
    clients: IndexClients,
    lease: Lease,
    *,
    generation_id: str,
    embedder: Embedder,
    documents: Sequence[Revision],
    still_valid: Callable[[Connection], None] = lambda _: None,
    on_refused: Callable[[Revision], None],
) -> ChunkCounts:
    """Make the generation serve `documents`.

    Parameters
    ----------
    still_valid
        Called inside the transaction that makes the documents visible; raises to prevent it.
    on_refused
        Called for a document with a text that the embedder will not take: the generation goes on serving what it served of it.

    Raises
    ------
    ConflictError
        If the lease was taken over; nothing is visible then that was not before.
    """
    with clients.database.read() as connection:
        planned = _plan(connection, generation_id, lease.fence, documents)
    wanted = {row["embed_hash"]: plan.texts[row["embed_hash"]] for plan in planned for row in plan.fresh}
    refused: set[str] = set()
    vectors, embedded = vectors_for(wanted, embedder=embedder, cache=clients.cache, progress=clients.watch.embedding, refused=refused)
    for plan in planned:
        if plan.needs(refused):
            on_refused(plan.revision)
    planned = [plan for plan in planned if not plan.needs(refused)]
    clients.reached("cached")
    for some in _for_one_transaction(planned):
        with clients.database.write() as connection:
            lease.check(connection)
            _record_intents(connection, generation_id, lease.fence, some)
    clients.reached("intended")
    with clients.database.read() as connection:
        # A process that was stopped for long would leave an extract that nothing names, and rows for the next scrub.
        lease.check(connection)
    _put_extracts(clients, [plan.revision for plan in planned])
    rows = [_store_row(plan.revision, row, vectors[row["embed_hash"]]) for plan in planned for row in plan.fresh]
    clients.store.upsert(generation_id, rows)
    clients.reached("written")
    for some in _for_one_transaction(planned):
        with clients.database.write() as connection:
            lease.check(connection)
            still_valid(connection)
            _switch(connection, generation_id, lease.fence, some)
    clients.reached("switched")
    gone = [stored.row_id for plan in planned for stored in plan.gone]
    clients.store.delete(generation_id, gone)
    clients.reached("deleted")
    clear(clients, lease, generation_ids=[generation_id], names=gone)
    # What was written is current, so its text is referred to: nothing to look up.
    _clear(clients, lease, {generation_id: [row["row_id"] for plan in planned for row in plan.fresh]})
    clients.reached("cleared")
    total = sum(len(plan.rows) for plan in planned)
    # Texts of a document that was refused may be among the embedded ones.
    return ChunkCounts(embedded=embedded, reused=max(0, total - embedded), written=len(rows), deleted=len(gone))


def _for_one_transaction(planned: Sequence[_Planned]) -> Iterator[list[_Planned]]:
    """Documents in groups: each is switched whole, and no transaction is long."""
    some: list[_Planned] = []
    rows = 0
    for plan in planned:
        if some and rows + len(plan.rows) > ROWS_PER_TRANSACTION:
            yield some
            some, rows = [], 0
        some.append(plan)
        rows += len(plan.rows)
    if some:
        yield some


def _put_extracts(clients: IndexClients, documents: Sequence[Revision]) -> None:
    blobs = {extracts.blob_name(new.extract_hash): new.extract for new in documents if new.extract is not None}
    if not blobs:
        return
    with ThreadPoolExecutor(min(BLOBS_AT_ONCE, len(blobs)), thread_name_prefix="extracts") as pool:
        for written in [pool.submit(clients.blobs.put, name, data) for name, data in blobs.items()]:
            written.result()


def _store_row(revision: Revision, row: Mapping[str, Any], vector: Vector) -> Row:
    words = row_tokens(row["heading"], row["text"])
    return Row(row["row_id"], row["chunk_id"], revision.doc_key, revision.allow, words, vector)


def row_tokens(heading: str, text: str) -> tuple[str, ...]:
    """Words by which a chunk's row is found."""
    return tokens(f"{heading}\n{text}")


def _plan(connection: Connection, generation_id: str, fence: int, documents: Sequence[Revision]) -> list[_Planned]:
    keys = [document.doc_key for document in documents]
    before = ledger.revisions(connection, generation_id=generation_id, doc_keys=keys)
    current: dict[str, dict[str, ledger.Stored]] = {}
    for stored in ledger.stored_chunks(connection, generation_id=generation_id, doc_keys=keys):
        current.setdefault(stored.doc_key, {})[stored.chunk_id] = stored
    planned = []
    for document in documents:
        old = current.get(document.doc_key, {})
        hashes = [embed_hash(chunk.embed_text) for chunk in document.chunks]
        rows, fresh = [], []
        for ordinal, (chunk, text_hash, name) in enumerate(zip(document.chunks, hashes, chunk_ids(document.doc_key, hashes), strict=True)):
            # A chunk that stays keeps its row: only its position in the ledger changes.
            kept = old.get(name)
            row = {
                "row_id": kept.row_id if kept else row_id(name, fence),
                "chunk_id": name,
                "doc_key": document.doc_key,
                "embed_hash": text_hash,
                "ordinal": ordinal,
                **_place(chunk),
            }
            rows.append(row)
            if kept is None:
                fresh.append(row)
        names = {row["chunk_id"] for row in rows}
        revision = before.get(document.doc_key)
        planned.append(
            _Planned(
                revision=document,
                rows=rows,
                texts={text_hash: chunk.embed_text for text_hash, chunk in zip(hashes, document.chunks, strict=True)},
                fresh=fresh,
                gone=[stored for name, stored in old.items() if name not in names],
                old_extract=revision.extract_hash if revision is not None and revision.extract_hash != document.extract_hash else None,
                mixed_rights=revision is not None and (revision.stored_allow is None or tuple(revision.stored_allow) != document.allow),
            )
        )
    return planned


def _place(chunk: Chunk) -> dict[str, Any]:
    return {
        "page": chunk.page,
        "start": chunk.start,
        "end": chunk.end,
        "spans": [list(span) for span in chunk.spans],
        "heading": chunk.heading,
        "text": chunk.text,
    }


def _record_intents(connection: Connection, generation_id: str, fence: int, planned: Sequence[_Planned]) -> None:
    rows, blobs, mixed = [], [], []
    for plan in planned:
        key = plan.revision.doc_key
        rows += [(row["row_id"], key, row["embed_hash"]) for row in plan.fresh]
        rows += [(stored.row_id, key, stored.embed_hash) for stored in plan.gone]
        if plan.revision.extract is not None:
            blobs.append((plan.revision.extract_hash, key))
        if plan.old_extract is not None:
            blobs.append((plan.old_extract, key))
        if plan.mixed_rights:
            mixed.append(key)
    # New rows get today's rights beside old rows with others: until all are patched, none is relied on.
    ledger.set_stored_allow(connection, generation_id=generation_id, doc_keys=mixed, allow=None)
    ledger.add_intents(connection, generation_id=generation_id, fence=fence, rows=rows, extracts=blobs)


def _switch(connection: Connection, generation_id: str, fence: int, planned: Sequence[_Planned]) -> None:
    ledger.put_documents(connection, {plan.revision.doc_key: plan.revision.document for plan in planned if plan.revision.document})
    revisions = {
        plan.revision.doc_key: {
            "revision": fence,
            "raw_hash": plan.revision.raw_hash,
            "extract_hash": plan.revision.extract_hash,
            "chunk_count": len(plan.rows),
            "stored_allow": None if plan.mixed_rights else list(plan.revision.allow),
        }
        for plan in planned
    }
    chunks = [row for plan in planned for row in plan.rows]
    ledger.set_revisions(connection, generation_id=generation_id, revisions=revisions, chunks=chunks)


def delete_documents(
    clients: IndexClients, lease: Lease, doc_keys: Sequence[str], *, still_valid: Callable[[Connection], None] = lambda _: None
) -> ChunkCounts:
    """Remove documents from every generation; invisible before the first row goes."""
    with clients.database.read() as connection:
        by_generation = ledger.generations_of(connection, doc_keys)
        going = {g: ledger.stored_chunks(connection, generation_id=g, doc_keys=keys) for g, keys in by_generation.items()}
        texts = {g: ledger.revisions(connection, generation_id=g, doc_keys=keys) for g, keys in by_generation.items()}
    with clients.database.write() as connection:
        lease.check(connection)
        still_valid(connection)
        for generation_id, chunks in going.items():
            rows = [(c.row_id, c.doc_key, c.embed_hash) for c in chunks]
            blobs = [(row.extract_hash, key) for key, row in texts[generation_id].items()]
            ledger.add_intents(connection, generation_id=generation_id, fence=lease.fence, rows=rows, extracts=blobs)
        # The same transaction: a crash after it leaves invisible rows and the intents that name them.
        ledger.delete_documents(connection, doc_keys)
    clients.reached("removed")
    for generation_id, chunks in going.items():
        clients.store.delete(generation_id, [c.row_id for c in chunks])
        clients.reached("deleted")
    clear(clients, lease, generation_ids=list(going), names={c.row_id for chunks in going.values() for c in chunks})
    clients.reached("cleared")
    return ChunkCounts(deleted=sum(map(len, going.values())))


def recover(clients: IndexClients, *, generation_ids: Sequence[str]) -> int:
    """Finish what an earlier run left behind; returns the number of rows that had to go.

    Rows that an intent names and the ledger does not are removed. Whether they were ever written does not matter. Their
    vectors stay until `purge`: the run that follows most likely needs them.
    """
    with clients.database.read() as connection:
        left = [i for i in ledger.intents(connection, generation_ids) if i.kind == ledger.ROW]
        orphans = _not_current(connection, left)
    for generation_id, rows in orphans.items():
        clients.store.delete(generation_id, rows)
    if left:
        clients.reached("recovered")
    return sum(map(len, orphans.values()))


def clear(clients: IndexClients, lease: Lease, *, generation_ids: Sequence[str], names: Collection[str]) -> None:
    """Clear the intents `names`, whose rows are settled.

    One whose text no chunk has any more stays until `purge`, at the end of the run: a text that moves to another document
    in the same run keeps its vector.
    """
    with clients.database.read() as connection:
        left = ledger.intents(connection, generation_ids, names=names)
        used = ledger.referenced_texts(connection, {i.embed_hash for i in left})
    _clear(clients, lease, _by_generation(i for i in left if i.embed_hash in used))


def purge(clients: IndexClients, lease: Lease, *, generation_ids: Sequence[str]) -> None:
    """End a run: remove vectors and extracts that went with their last reference, then clear all intents."""
    with clients.database.read() as connection:
        left = ledger.intents(connection, generation_ids)
        used_texts = ledger.referenced_texts(connection, {i.embed_hash for i in left if i.kind == ledger.ROW})
        used_extracts = ledger.referenced_extracts(connection, {i.row_id for i in left if i.kind == ledger.EXTRACT})
    if not left:
        return
    clients.cache.remove({i.embed_hash for i in left if i.kind == ledger.ROW} - used_texts)
    for name in sorted({i.row_id for i in left if i.kind == ledger.EXTRACT} - used_extracts):
        clients.blobs.delete(extracts.blob_name(name))
    clients.reached("purged")
    _clear(clients, lease, _by_generation(left))


def _by_generation(intents: Iterable[Any]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for intent in intents:
        names.setdefault(intent.generation_id, []).append(intent.row_id)
    return names


def _clear(clients: IndexClients, lease: Lease, settled: Mapping[str, Sequence[str]]) -> None:
    if not any(settled.values()):
        return
    with clients.database.write() as connection:
        lease.check(connection)
        for generation_id, names in settled.items():
            ledger.clear_intents(connection, generation_id=generation_id, names=names)


def _not_current(connection: Connection, left: Sequence[Any]) -> dict[str, list[str]]:
    orphans = {}
    for generation_id, names in _by_generation(left).items():
        current = {s.row_id for s in ledger.stored_chunks_by_row(connection, generation_id=generation_id, row_ids=names)}
        rows = sorted(set(names) - current)
        if rows:
            orphans[generation_id] = rows
    return orphans
