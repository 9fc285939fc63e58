"""Keep a generation in step with the ledger: documents it lacks, rights its rows do not carry yet."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar, cast

from affinage.documents.blocks import ExtractedDocument
from affinage.documents.chunking import split
from affinage.engines.protocols import Embedder
from affinage.errors import DocumentError
from affinage.index import extracts, ledger
from affinage.index.builds import Generation, open_embedder
from affinage.index.clients import IndexClients
from affinage.index.leases import Lease
from affinage.index.revisions import ChunkCounts, Revision, write_revisions

BATCH_DOCUMENTS = 512
BATCH_CHUNKS = 4_000
# Of one commit of the store: each costs it some 100 ms, and a version that must be compacted away.

T = TypeVar("T")
Extracted = Callable[[ledger.Lagging], tuple[ExtractedDocument, str, bytes | None]]


def lease_name(source: str) -> str:
    """Name of the lease under which everything of a source is written."""
    return f"source/{source}"


def waiting(clients: IndexClients, source: str) -> Callable[[], None]:
    """What to do when somebody else holds the lease: say so."""
    return lambda: clients.progress(f"{source}: waiting for another process that works on it")


def catch_up(
    clients: IndexClients, lease: Lease, generation: Generation, *, embedder: Embedder | None = None, extracted: Extracted | None = None
) -> ChunkCounts:
    """Bring a generation to the documents as they were last indexed, from their extracts; cheap when it is there.

    Raises
    ------
    DocumentError
        If the embedder will not take a text of a document; the generation lacks it then, and those after it.
    """
    counts = ChunkCounts()
    with clients.database.read() as connection:
        behind = ledger.lagging(connection, source=generation.source, generation_id=generation.generation_id)
    if not behind:
        return counts
    opened = embedder or open_embedder(clients, generation)
    load = extracted or _from_blobs(clients)

    def revisions() -> Iterator[Revision]:
        for document in behind:
            content, extract_hash, data = load(document)
            chunks = split(content, count_tokens=opened.count_tokens, max_tokens=opened.max_tokens)
            yield Revision(document.doc_key, document.raw_hash, extract_hash, document.allow, chunks, extract=data)

    paths = {document.doc_key: document.path for document in behind}

    def refuse(revision: Revision) -> None:
        raise not_embedded(paths[revision.doc_key])

    name = generation.generation_id
    with closing(ahead(in_batches(revisions()))) as batches:
        for batch in batches:
            counts.add(write_revisions(clients, lease, generation_id=name, embedder=opened, documents=batch, on_refused=refuse))
            clients.progress(f"{generation.source}: generation {generation.generation_id}: {counts.written} rows")
    clients.store.maintain(generation.generation_id)
    return counts


def not_embedded(path: str) -> DocumentError:
    """The error for a document with a text that the embedder will not take. Another time, or another embedder, may."""
    message = f"The embedder refuses a text of `{path}`, also when it is alone."
    return DocumentError(path, "not_embedded", message, hint="Check the `max_tokens` that its declaration says.", retryable=True)


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """`items`, the next one made in a thread while the caller works on the last; close it, and the thread has ended.

    What `items` raises is raised here.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        end = object()
        coming: Future[T | object] = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield cast("T", item)


def in_batches(revisions: Iterator[Revision]) -> Iterator[list[Revision]]:
    """Group revisions for one write each."""
    batch: list[Revision] = []
    chunks = 0
    for revision in revisions:
        batch.append(revision)
        chunks += len(revision.chunks)
        if len(batch) >= BATCH_DOCUMENTS or chunks >= BATCH_CHUNKS:
            yield batch
            batch, chunks = [], 0
    if batch:
        yield batch


def patch_rights(clients: IndexClients, lease: Lease, *, generation_ids: Sequence[str]) -> ChunkCounts:
    """Write the present rights on the rows of the store. Readers do not wait for it: the ledger decides."""
    with clients.database.read() as connection:
        pending = ledger.pending_rights(connection, generation_ids)
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for generation_id, doc_key, allow in pending:
        groups.setdefault((generation_id, allow), []).append(doc_key)
    counts = ChunkCounts()
    for (generation_id, allow), doc_keys in groups.items():
        with clients.database.write() as connection:
            lease.check(connection)
            # Unknown until done: rights that change back meanwhile must not pass for written.
            ledger.set_stored_allow(connection, generation_id=generation_id, doc_keys=doc_keys, allow=None)
        clients.reached("unpatched")
        clients.store.patch_allow(generation_id, doc_keys, allow)
        clients.reached("patched")
        with clients.database.write() as connection:
            lease.check(connection)
            ledger.set_stored_allow(connection, generation_id=generation_id, doc_keys=doc_keys, allow=allow)
            counts.patched += ledger.count_chunks(connection, generation_id=generation_id, doc_keys=doc_keys)
    return counts


def _from_blobs(clients: IndexClients) -> Extracted:
    def load(document: ledger.Lagging) -> tuple[ExtractedDocument, str, bytes | None]:
        content, _ = extracts.load(clients.blobs, document.extract_hash)
        return content, document.extract_hash, None

    return load
