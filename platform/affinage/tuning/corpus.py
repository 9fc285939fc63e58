"""The texts an embedder has to rank: every chunk of the documents that an assistant's generations serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import select

from affinage.blobs import BlobStore
from affinage.database.engine import Database
from affinage.database.tables.index import document_revision
from affinage.documents.chunking import split
from affinage.index import extracts
from affinage.index.identity import chunk_ids, embed_hash


def corpus_of(
    database: Database,
    blobs: BlobStore,
    generations: Mapping[str, str],
    *,
    count_tokens: Callable[[str], int],
    max_tokens: int,
) -> tuple[dict[str, str], dict[str, str]]:
    """Embedded texts by digest, and the digest of each chunk's text by chunk id.

    Documents are cut again from their stored extracts, as the index cuts them. Rights do not count here: nothing of a
    text leaves this process, and more competitors make the task harder, never easier.
    """
    with database.read() as connection:
        query = select(document_revision.c.doc_key, document_revision.c.extract_hash)
        query = query.where(document_revision.c.generation_id.in_(sorted(generations.values())))
        revisions = connection.execute(query.order_by(document_revision.c.doc_key)).all()
    texts: dict[str, str] = {}
    chunks: dict[str, str] = {}
    for revision in revisions:
        document, _ = extracts.load(blobs, revision.extract_hash)
        pieces = split(document, count_tokens=count_tokens, max_tokens=max_tokens)
        hashes = [embed_hash(piece.embed_text) for piece in pieces]
        texts.update(zip(hashes, (piece.embed_text for piece in pieces), strict=True))
        chunks.update(zip(chunk_ids(revision.doc_key, hashes), hashes, strict=True))
    return texts, chunks
