"""Read one thing of the index under rights: a passage by its name, a document's whole text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from affinage.blobs import BlobStore
from affinage.database.tables.index import document, document_revision
from affinage.documents.blocks import ExtractedDocument
from affinage.identity.rights import may_read
from affinage.index import extracts, ledger
from affinage.index.passages import Passage


@dataclass(frozen=True)
class DocumentText:
    """An extracted document as a reader sees it. `document` is `<source>/<path>`; citations count in `content.text`."""

    doc_key: str
    document: str
    title: str
    language: str
    allow: tuple[str, ...]
    content: ExtractedDocument


def current_passage(connection: Connection, chunk_id: str, *, generations: Mapping[str, str], principals: frozenset[str]) -> Passage | None:
    """The passage named `chunk_id` as it stands now.

    Parameters
    ----------
    generations
        Source to generation, as a variant names them.

    Returns
    -------
    Passage or None
        None when it is gone, was replaced, or may not be read: the caller cannot tell which.
    """
    return ledger.passage_of_chunk(connection, chunk_id=chunk_id, generation_ids=list(generations.values()), principals=principals)


def document_text(
    connection: Connection, blobs: BlobStore, doc_key: str, *, generations: Mapping[str, str], principals: frozenset[str]
) -> DocumentText | None:
    """The text of a document as these generations serve it; None when it is gone or may not be read."""
    query = (
        select(
            document.c.source, document.c.path, document.c.title, document.c.language, document.c.allow, document_revision.c.extract_hash
        )
        .select_from(document_revision.join(document, document.c.doc_key == document_revision.c.doc_key))
        .where(document_revision.c.doc_key == doc_key, document_revision.c.generation_id.in_(list(generations.values())))
    )
    row = connection.execute(query).first()
    if row is None or not may_read(principals, row.allow):
        return None
    content, _ = extracts.load(blobs, row.extract_hash)
    return DocumentText(doc_key, f"{row.source}/{row.path}", row.title or "", row.language or "", tuple(row.allow), content)
