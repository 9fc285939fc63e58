"""Queries on the ledger: documents, what each generation serves of them, chunks and intents.

Callers own the transaction. Nothing here decides; the deciding modules get plain values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, Text, and_, bindparam, cast, collate, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

from affinage.database.tables.index import chunk, document, document_revision, intent
from affinage.identity.rights import may_read
from affinage.index.passages import Passage
from affinage.index.plan import Known

NAMES_PER_QUERY = 500
# Below the oldest limit on parameters of one SQLite statement.
ROW, EXTRACT = "row", "extract"

T = TypeVar("T")


def parts(items: Iterable[T]) -> list[list[T]]:
    """`items` in lists short enough for one `IN`."""
    every = list(items)
    return [every[i : i + NAMES_PER_QUERY] for i in range(0, len(every), NAMES_PER_QUERY)]


# Documents


def stream_known(connection: Connection, source: str) -> Iterator[Known]:
    """Every document of `source` by path in code point order, as a stream."""
    order: ColumnElement[Any] = document.c.path if connection.dialect.name == "sqlite" else collate(document.c.path, "C")
    query = select(document).where(document.c.source == source).order_by(order)
    rows = connection.execution_options(stream_results=True).execute(query)
    for row in rows.yield_per(1_000):
        yield Known(
            row.doc_key, row.path, row.signature, row.raw_hash, tuple(row.allow),
            row.state == "failed", row.failure, row.attempts or 0, row.retry_at,
        )  # fmt: skip


def count_known(connection: Connection, source: str) -> int:
    """Number of documents of `source`."""
    return connection.execute(select(func.count()).select_from(document).where(document.c.source == source)).scalar_one()


def count_states(connection: Connection, source: str) -> dict[str, int]:
    """Documents of `source` by state."""
    query = select(document.c.state, func.count()).where(document.c.source == source).group_by(document.c.state)
    return dict(connection.execute(query).tuples().all())


def failures(connection: Connection, source: str) -> list[dict[str, Any]]:
    """Documents of `source` that could not be read: path, reason, message and hint, and when they are tried again."""
    columns = (document.c.path, document.c.failure, document.c.attempts, document.c.retry_at)
    query = select(*columns).where(document.c.source == source, document.c.state == "failed")
    rows = connection.execute(query.order_by(document.c.path))
    told = ("reason", "message", "hint")
    return [
        {"path": row.path, **{key: row.failure.get(key) or "" for key in told}, "attempts": row.attempts or 1, "retry_at": row.retry_at}
        for row in rows
    ]


def put_documents(connection: Connection, documents: Mapping[str, Mapping[str, Any]]) -> None:
    """Insert the documents or update the given columns, the same ones for all."""
    known: set[str] = set()
    for some in parts(documents):
        known.update(connection.execute(select(document.c.doc_key).where(document.c.doc_key.in_(some))).scalars())
    changed = [{"key": key, **values} for key, values in documents.items() if key in known]
    if changed:
        connection.execute(update(document).where(document.c.doc_key == bindparam("key")), changed)
    added = [{"doc_key": key, **values} for key, values in documents.items() if key not in known]
    if added:
        connection.execute(insert(document), added)


def delete_documents(connection: Connection, doc_keys: Collection[str]) -> None:
    """Forget documents in every generation: they are invisible from the end of the transaction."""
    for some in parts(doc_keys):
        connection.execute(delete(chunk).where(chunk.c.doc_key.in_(some)))
        connection.execute(delete(document_revision).where(document_revision.c.doc_key.in_(some)))
        connection.execute(delete(document).where(document.c.doc_key.in_(some)))


# What a generation serves


@dataclass(frozen=True)
class Lagging:
    """A document whose revision in a generation is not of its last indexed content."""

    doc_key: str
    path: str
    raw_hash: str
    extract_hash: str
    allow: tuple[str, ...]


def lagging(connection: Connection, *, source: str, generation_id: str) -> list[Lagging]:
    """Documents of `source` that the generation does not serve as they were last indexed, by path."""
    joined = document.outerjoin(
        document_revision, and_(document_revision.c.doc_key == document.c.doc_key, document_revision.c.generation_id == generation_id)
    )
    query = (
        select(document.c.doc_key, document.c.path, document.c.raw_hash, document.c.extract_hash, document.c.allow)
        .select_from(joined)
        .where(document.c.source == source, document.c.raw_hash.is_not(None))
        .where(or_(document_revision.c.raw_hash.is_(None), document_revision.c.raw_hash != document.c.raw_hash))
        .order_by(document.c.path)
    )
    return [Lagging(r.doc_key, r.path, r.raw_hash, r.extract_hash, tuple(r.allow)) for r in connection.execute(query)]


@dataclass(frozen=True)
class Stored:
    """A chunk row of the ledger, as far as writing and checking need it."""

    row_id: str
    chunk_id: str
    doc_key: str
    embed_hash: str
    heading: str
    text: str


_STORED = (chunk.c.row_id, chunk.c.chunk_id, chunk.c.doc_key, chunk.c.embed_hash, chunk.c.heading, chunk.c.text)


def stored_chunks(connection: Connection, *, generation_id: str, doc_keys: Collection[str] | None = None) -> list[Stored]:
    """Current chunks of a generation, or of some of its documents."""
    query = select(*_STORED).where(chunk.c.generation_id == generation_id)
    if doc_keys is None:
        return [Stored(*row) for row in connection.execute(query.order_by(chunk.c.row_id)).tuples()]
    # In no order: asked for one, SQLite walks through the whole generation by row instead of taking the documents' index.
    return [Stored(*row) for some in parts(doc_keys) for row in connection.execute(query.where(chunk.c.doc_key.in_(some))).tuples()]


def stored_chunks_by_row(connection: Connection, *, generation_id: str, row_ids: Collection[str]) -> list[Stored]:
    """Current chunks of a generation by row."""
    query = select(*_STORED).where(chunk.c.generation_id == generation_id)
    return [Stored(*row) for some in parts(row_ids) for row in connection.execute(query.where(chunk.c.row_id.in_(some))).tuples()]


def revisions(connection: Connection, *, generation_id: str, doc_keys: Collection[str]) -> dict[str, Row[Any]]:
    """Rows of `document_revision` by document."""
    query = select(document_revision).where(document_revision.c.generation_id == generation_id)
    return {row.doc_key: row for some in parts(doc_keys) for row in connection.execute(query.where(document_revision.c.doc_key.in_(some)))}


def count_chunks(connection: Connection, *, generation_id: str, doc_keys: Collection[str] | None = None) -> int:
    """Number of current chunks of a generation, or of some of its documents."""
    query = select(func.count()).select_from(chunk).where(chunk.c.generation_id == generation_id)
    if doc_keys is None:
        return connection.execute(query).scalar_one()
    return sum(connection.execute(query.where(chunk.c.doc_key.in_(some))).scalar_one() for some in parts(doc_keys))


def count_served(connection: Connection, generation_id: str) -> int:
    """Number of documents that the generation serves."""
    query = select(func.count()).select_from(document_revision).where(document_revision.c.generation_id == generation_id)
    return connection.execute(query).scalar_one()


def generations_of(connection: Connection, doc_keys: Collection[str]) -> dict[str, list[str]]:
    """Documents by each generation that serves them."""
    found: dict[str, list[str]] = {}
    for some in parts(doc_keys):
        query = select(document_revision.c.generation_id, document_revision.c.doc_key).where(document_revision.c.doc_key.in_(some))
        for generation_id, doc_key in connection.execute(query).tuples():
            found.setdefault(generation_id, []).append(doc_key)
    return found


def set_revisions(
    connection: Connection, *, generation_id: str, revisions: Mapping[str, Mapping[str, Any]], chunks: Sequence[Mapping[str, Any]]
) -> None:
    """Replace what the generation serves of documents: their revisions, by document, and all their chunk rows."""
    for some in parts(revisions):
        connection.execute(delete(chunk).where(chunk.c.generation_id == generation_id, chunk.c.doc_key.in_(some)))
        old = (document_revision.c.generation_id == generation_id) & document_revision.c.doc_key.in_(some)
        connection.execute(delete(document_revision).where(old))
    if chunks:
        connection.execute(insert(chunk), [{"generation_id": generation_id, **row} for row in chunks])
    if revisions:
        rows = [{"generation_id": generation_id, "doc_key": key, **values} for key, values in revisions.items()]
        connection.execute(insert(document_revision), rows)


# Rights that the store does not carry yet


def _is_pending() -> ColumnElement[bool]:
    # As text: PostgreSQL has no equality of JSON, and both columns are written by the same serialiser from sorted lists.
    stored, wanted = cast(document_revision.c.stored_allow, Text), cast(document.c.allow, Text)
    return or_(document_revision.c.stored_allow.is_(None), stored != wanted)


def pending_rights(connection: Connection, generation_ids: Collection[str]) -> list[tuple[str, str, tuple[str, ...]]]:
    """(generation, document, principals) for each document whose rows do not carry its present rights."""
    query = (
        select(document_revision.c.generation_id, document.c.doc_key, document.c.allow)
        .select_from(document_revision.join(document, document.c.doc_key == document_revision.c.doc_key))
        .where(document_revision.c.generation_id.in_(list(generation_ids)), _is_pending())
        .order_by(document_revision.c.generation_id, document.c.doc_key)
    )
    return [(row.generation_id, row.doc_key, tuple(row.allow)) for row in connection.execute(query)]


def stored_allow(connection: Connection, generation_id: str) -> dict[str, tuple[str, ...] | None]:
    """Document to the principals that all its rows in the generation carry; None when that is not known."""
    query = select(document_revision.c.doc_key, document_revision.c.stored_allow).where(document_revision.c.generation_id == generation_id)
    return {row.doc_key: None if row.stored_allow is None else tuple(row.stored_allow) for row in connection.execute(query)}


def set_stored_allow(connection: Connection, *, generation_id: str, doc_keys: Collection[str], allow: Sequence[str] | None) -> None:
    """Record which principals all rows of the documents carry; None: they differ, or are about to."""
    for some in parts(doc_keys):
        key = (document_revision.c.generation_id == generation_id) & document_revision.c.doc_key.in_(some)
        connection.execute(update(document_revision).where(key).values(stored_allow=None if allow is None else list(allow)))


# Intents


def add_intents(
    connection: Connection,
    *,
    generation_id: str,
    fence: int,
    rows: Iterable[tuple[str, str, str]],
    extracts: Iterable[tuple[str, str]] = (),
) -> None:
    """Record what may appear or must go.

    Parameters
    ----------
    rows
        (row id, document, digest of the embedded text).
    extracts
        (hash, document).
    """
    values = [{"row_id": row, "kind": ROW, "embed_hash": text_hash, "doc_key": doc_key} for row, doc_key, text_hash in rows] + [
        {"row_id": name, "kind": EXTRACT, "embed_hash": None, "doc_key": doc_key} for name, doc_key in extracts
    ]
    if not values:
        return
    unique = {str(value["row_id"]): {"generation_id": generation_id, "fence": fence, **value} for value in values}
    upsert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(intent)
    changed = {name: upsert.excluded[name] for name in ("kind", "embed_hash", "doc_key", "fence")}
    connection.execute(upsert.on_conflict_do_update(index_elements=["generation_id", "row_id"], set_=changed), list(unique.values()))


def intents(connection: Connection, generation_ids: Collection[str], *, names: Collection[str] | None = None) -> list[Row[Any]]:
    """Intents of the generations: all, or those with the given names."""
    query = select(intent).where(intent.c.generation_id.in_(list(generation_ids)))
    if names is None:
        return list(connection.execute(query))
    return [row for some in parts(names) for row in connection.execute(query.where(intent.c.row_id.in_(some)))]


def count_intents(connection: Connection, generation_ids: Collection[str]) -> int:
    """Number of intents of the generations."""
    query = select(func.count()).select_from(intent).where(intent.c.generation_id.in_(list(generation_ids)))
    return connection.execute(query).scalar_one()


def clear_intents(connection: Connection, *, generation_id: str, names: Collection[str]) -> None:
    """Forget intents."""
    for some in parts(names):
        connection.execute(delete(intent).where(intent.c.generation_id == generation_id, intent.c.row_id.in_(some)))


def referenced_texts(connection: Connection, text_hashes: Collection[str]) -> set[str]:
    """Those digests that a current chunk of any generation has."""
    found: set[str] = set()
    for some in parts(text_hashes):
        found.update(connection.execute(select(chunk.c.embed_hash).where(chunk.c.embed_hash.in_(some)).distinct()).scalars())
    return found


def referenced_extracts(connection: Connection, hashes: Collection[str]) -> set[str]:
    """Those extracts that a document or a revision refers to."""
    found: set[str] = set()
    for some in parts(hashes):
        found.update(connection.execute(select(document.c.extract_hash).where(document.c.extract_hash.in_(some)).distinct()).scalars())
        query = select(document_revision.c.extract_hash).where(document_revision.c.extract_hash.in_(some)).distinct()
        found.update(connection.execute(query).scalars())
    return found


# Passages


def _passages() -> Select[Any]:
    of_document = (document.c.source, document.c.path, document.c.title, document.c.language, document.c.allow)
    return select(chunk, *of_document).select_from(chunk.join(document, document.c.doc_key == chunk.c.doc_key))


def _passage(row: Row[Any]) -> Passage:
    return Passage(
        chunk_id=row.chunk_id,
        doc_key=row.doc_key,
        document=f"{row.source}/{row.path}",
        title=row.title or "",
        language=row.language or "",
        page=row.page,
        heading=row.heading,
        text=row.text,
        start=row.start,
        end=row.end,
        spans=tuple((start, end) for start, end in row.spans),
        allow=tuple(row.allow),
        score=0.0,
    )


@dataclass(frozen=True)
class Guarded:
    """What the guard says of rows of a store.

    `visible` is by row id. `outdated` tells whether a row was dropped because it is not current, as happens while its
    document is being replaced.
    """

    visible: dict[str, Passage]
    outdated: bool


def guard(connection: Connection, *, generation_id: str, row_ids: Collection[str], principals: frozenset[str]) -> Guarded:
    """The rows that are current and that someone with `principals` may read, whatever the store said."""
    visible: dict[str, Passage] = {}
    current = 0
    for some in parts(row_ids):
        query = _passages().where(chunk.c.generation_id == generation_id, chunk.c.row_id.in_(some))
        for row in connection.execute(query):
            current += 1
            if may_read(principals, row.allow):
                visible[row.row_id] = _passage(row)
    return Guarded(visible, outdated=current < len(set(row_ids)))


def passage_of_chunk(
    connection: Connection, *, chunk_id: str, generation_ids: Collection[str], principals: frozenset[str]
) -> Passage | None:
    """The current passage named `chunk_id`, or None when it is gone or not for these principals."""
    query = _passages().where(chunk.c.chunk_id == chunk_id, chunk.c.generation_id.in_(list(generation_ids)))
    row = connection.execute(query.order_by(chunk.c.generation_id)).first()
    return _passage(row) if row is not None and may_read(principals, row.allow) else None
