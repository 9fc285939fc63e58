"""Documents and chunks written straight into the ledger, for tests that read it and embed nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, update

from affinage.database.tables import declarations, index
from affinage.database.tables.identity import organisation
from tests.support.answers import AT


def put_source(connection: Connection, source: str = "handbook", *, embedder: dict[str, str | None] | None = None) -> str:
    """A declared source with one serving generation; returns the generation's id."""
    if connection.execute(select(organisation.c.name)).first() is None:
        connection.execute(insert(organisation).values(name="default", created_at=AT))
    spec = {"name": source, "path": "/nowhere"}
    connection.execute(insert(declarations.source).values(name=source, organisation="default", spec=spec, applied_at=AT))
    generation_id = f"g-{source}"
    connection.execute(
        insert(index.generation).values(
            generation_id=generation_id,
            source=source,
            fingerprint={},
            embedder=embedder or {"name": "package:minilm", "adapter": None},
            state="serving",
            created_at=AT,
        )
    )
    return generation_id


def put_document(
    connection: Connection, path: str, texts: Sequence[str], *, allow: Sequence[str] = ("everyone",), source: str = "handbook"
) -> list[str]:
    """A document of these chunks; returns the chunk ids."""
    doc_key = f"key-{path}"
    generation_id = f"g-{source}"
    connection.execute(
        insert(index.document).values(
            doc_key=doc_key, source=source, path=path, title=path, language="en", allow=list(allow), state="indexed", updated_at=AT
        )
    )
    connection.execute(
        insert(index.document_revision).values(
            generation_id=generation_id, doc_key=doc_key, revision=1, raw_hash="r", chunk_count=len(texts), extract_hash="e"
        )
    )
    ids = []
    start = 0
    for ordinal, text in enumerate(texts):
        chunk_id = "c-" + hashlib.sha256(f"{path}\x1f{text}".encode()).hexdigest()[:12]
        ids.append(chunk_id)
        connection.execute(
            insert(index.chunk).values(
                generation_id=generation_id,
                row_id=f"r-{chunk_id}",
                chunk_id=chunk_id,
                doc_key=doc_key,
                embed_hash="h",
                ordinal=ordinal,
                start=start,
                end=start + len(text),
                spans=[[start, start + len(text)]],
                heading="",
                text=text,
            )
        )
        start += len(text) + 1
    return ids


def allow_document(connection: Connection, path: str, allow: Sequence[str]) -> None:
    """Change who may read it."""
    connection.execute(update(index.document).where(index.document.c.path == path).values(allow=list(allow)))


def drop_document(connection: Connection, path: str) -> None:
    """Remove it from what is served."""
    key = f"key-{path}"
    connection.execute(delete(index.chunk).where(index.chunk.c.doc_key == key))
    connection.execute(delete(index.document_revision).where(index.document_revision.c.doc_key == key))
