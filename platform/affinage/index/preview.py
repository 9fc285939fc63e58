"""What a sync would do, and what it would cost. Writes nothing anywhere."""

from __future__ import annotations

import time

from affinage.declarations.repository import get_source
from affinage.documents.chunking import split
from affinage.engines.protocols import Embedder
from affinage.index import ledger
from affinage.index.builds import SERVING, declared_embedder, list_generations
from affinage.index.clients import IndexClients
from affinage.index.identity import chunk_ids, embed_hash
from affinage.index.reports import COMPLETE, HELD, PARTIAL, SyncReport
from affinage.index.revisions import ChunkCounts
from affinage.index.runs import characters_per_second
from affinage.index.survey import Inspected, Survey, inspect, survey

TOKENS_PER_SECOND = 5_000
# The packaged embedder on one core: 44 texts of 128 tokens a second. Taken until a run was seen.


def preview(clients: IndexClients, source: str, *, confirm_deletes: bool = False, run_id: str | None = None) -> SyncReport:
    """The report of a sync of `source` that is not run, with the tokens it would embed and an estimate of the time.

    The estimate is the time that listing, reading and splitting took just now, which a sync does as well, and that of embedding
    at the rate of the last runs. Writing is not in it.

    Raises
    ------
    DependencyError
        If the source cannot be listed.
    """
    started = time.monotonic()
    with clients.database.read() as connection:
        spec = get_source(connection, source)
        serving = next((g for g in list_generations(connection, source) if g.state == SERVING), None)
    opened = clients.places.open(spec)
    found, _ = survey(clients.database, spec, opened, now=clients.now())
    report = SyncReport(run_id or clients.new_id(), tokens=0, estimated_seconds=0.0)
    counts = report.documents
    counts.seen, counts.unsupported, counts.unchanged = found.seen, found.unsupported, found.unchanged
    counts.failed, counts.moved = found.still_failed, len(found.moved)
    held = found.held and not confirm_deletes
    counts.held, counts.deleted = (len(found.missing), 0) if held else (0, len(found.missing))
    embedder = None
    planned: set[str] = set()
    characters = 0
    for item in inspect(opened, found, extract=clients.extract, xml=spec.xml, now=clients.now()):
        if item.failure is not None:
            counts.failed += 1
        elif item.document is None:
            counts.unchanged += 1
        else:
            if item.known is None or item.known.raw_hash is None:
                counts.added += 1
            else:
                counts.changed += 1
            embedder = embedder or clients.embedder_of(serving.embedder if serving else declared_embedder(spec))
            texts = [chunk.embed_text for chunk in split(item.document, count_tokens=embedder.count_tokens, max_tokens=embedder.max_tokens)]
            hashes = [embed_hash(text) for text in texts]
            cached = clients.cache.get(embedder.fingerprint, hashes)
            missing = {digest: text for digest, text in zip(hashes, texts, strict=True) if digest not in cached and digest not in planned}
            planned |= missing.keys()
            characters += sum(map(len, missing.values()))
            report.tokens = (report.tokens or 0) + sum(map(embedder.count_tokens, missing.values()))
            report.chunks.add(_rows(clients, serving.generation_id if serving else "", item, hashes, embedded=len(missing)))
    _count_known(clients, serving.generation_id if serving else "", found, report, held=held)
    report.status = HELD if counts.held else PARTIAL if counts.failed else COMPLETE
    report.bytes_not_read = found.bytes_not_read
    report.seconds = round(time.monotonic() - started, 3)
    embedding = 0.0 if embedder is None else _embedding_seconds(clients, source, embedder, tokens=report.tokens or 0, characters=characters)
    report.estimated_seconds = round(report.seconds + embedding, 1)
    return report


def _embedding_seconds(clients: IndexClients, source: str, embedder: Embedder, *, tokens: int, characters: int) -> float:
    with clients.database.read() as connection:
        rate = characters_per_second(connection, source, embedder=embedder.fingerprint)
    return tokens / TOKENS_PER_SECOND if rate is None else characters / rate


def _rows(clients: IndexClients, generation_id: str, item: Inspected, hashes: list[str], *, embedded: int) -> ChunkCounts:
    old: set[str] = set()
    doc_key = item.known.doc_key if item.known else ""
    if item.known is not None:
        with clients.database.read() as connection:
            old = {c.chunk_id for c in ledger.stored_chunks(connection, generation_id=generation_id, doc_keys=[doc_key])}
    names = set(chunk_ids(doc_key, hashes))
    return ChunkCounts(embedded=embedded, reused=len(hashes) - embedded, written=len(names - old), deleted=len(old - names))


def _count_known(clients: IndexClients, generation_id: str, found: Survey, report: SyncReport, *, held: bool) -> None:
    with clients.database.read() as connection:
        if not held:
            missing = [known.doc_key for known in found.missing]
            report.chunks.deleted += ledger.count_chunks(connection, generation_id=generation_id, doc_keys=missing)
        changing = {known.doc_key for known, _ in found.rights}
        changing |= {doc_key for _, doc_key, _ in ledger.pending_rights(connection, [generation_id])}
        report.chunks.patched += ledger.count_chunks(connection, generation_id=generation_id, doc_keys=changing)
