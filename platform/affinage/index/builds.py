"""Which generations exist: physical builds of a source's index, each with one fingerprint and one embedder.

Queries on the table; `generations.py` builds and switches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from affinage.database.tables.declarations import source as source_table
from affinage.database.tables.index import canary, chunk, document_revision, intent
from affinage.database.tables.index import generation as table
from affinage.declarations.model import SourceSpec
from affinage.documents.chunking import SPLIT_FINGERPRINT
from affinage.documents.extraction import extract_fingerprint
from affinage.engines.protocols import Embedder
from affinage.errors import UnknownObjectError
from affinage.index import canaries
from affinage.index.clients import IndexClients
from affinage.index.leases import Lease

BUILDING, READY, SERVING, RETIRED = "building", "ready", "serving", "retired"
FOLLOWING = (SERVING, READY, RETIRED)
# A variant may name any of these, so every sync brings all of them up to date.


@dataclass(frozen=True)
class Generation:
    """One build of one source. `embedder` is what `embedder_of` takes."""

    generation_id: str
    source: str
    fingerprint: Mapping[str, str]
    embedder: Mapping[str, Any]
    state: str
    created_at: datetime


def _generation(row: Row[Any]) -> Generation:
    return Generation(row.generation_id, row.source, row.fingerprint, row.embedder, row.state, row.created_at)


def serving_generations(connection: Connection, sources: Iterable[str]) -> dict[str, str]:
    """Source to the generation that serves it; sources that were never indexed, or are no longer declared, are left out."""
    query = (
        select(table.c.source, table.c.generation_id)
        .select_from(table.join(source_table, source_table.c.name == table.c.source))
        .where(table.c.source.in_(list(sources)), table.c.state == SERVING, source_table.c.removed_at.is_(None))
        .order_by(table.c.source)
    )
    return {row.source: row.generation_id for row in connection.execute(query)}


def get_generation(connection: Connection, generation_id: str) -> Generation:
    """The generation named `generation_id`."""
    row = connection.execute(select(table).where(table.c.generation_id == generation_id)).first()
    if row is None:
        raise UnknownObjectError("generation", generation_id, hint="`affinage index status` lists the generations.")
    return _generation(row)


def list_generations(connection: Connection, source: str | None = None, *, states: Sequence[str] | None = None) -> list[Generation]:
    """Generations of a source, or of all, the newest last."""
    query = select(table).order_by(table.c.source, table.c.created_at, table.c.generation_id)
    if source is not None:
        query = query.where(table.c.source == source)
    if states is not None:
        query = query.where(table.c.state.in_(list(states)))
    return [_generation(row) for row in connection.execute(query)]


def declared_embedder(spec: SourceSpec) -> dict[str, Any]:
    """The embedder that the declaration names, as `embedder_of` takes it."""
    return {"name": spec.embedder, "adapter": None}


def fingerprint_of(embedder: Embedder, *, store: str, xml: Mapping[str, str] | None) -> dict[str, str]:
    """What decides the rows of a generation: extraction, splitting (with the embedder's token limit), vectors, store."""
    return {
        "extract": extract_fingerprint(xml),
        "split": f"{SPLIT_FINGERPRINT} tokens={embedder.max_tokens}",
        "embed": embedder.fingerprint,
        "store": store,
    }


def create_generation(
    clients: IndexClients,
    lease: Lease,
    *,
    source: str,
    embedder: Mapping[str, Any],
    opened: Embedder,
    fingerprint: Mapping[str, str],
    state: str,
) -> Generation:
    """Create the store's table, then record the generation with its canaries: a record always has its table.

    Parameters
    ----------
    embedder, opened
        What `embedder_of` takes, and what it gave.

    Raises
    ------
    ChangedEmbedderError
        If the embedder gives other vectors than it gave another generation under the same fingerprint: the cache holds those.
    ConflictError
        If the lease was taken over: whoever took it may have made the generation that serves.
    """
    made = Generation(clients.new_id(), source, dict(fingerprint), dict(embedder), state, clients.now())
    taken = canaries.take(opened)
    if taken:
        with clients.database.read() as connection:
            alike = [g.generation_id for g in list_generations(connection) if g.fingerprint["embed"] == fingerprint["embed"]]
            before = canaries.stored(connection, alike)
        if not canaries.agree(taken, before):
            raise canaries.changed(embedder=embedder.get("name"), source=source)
        # The first vectors and not those of today: many small steps would lead anywhere.
        taken = before or taken
    clients.store.ensure(made.generation_id, dimensions=opened.dimensions)
    with clients.database.write() as connection:
        lease.check(connection)
        connection.execute(insert(table).values(**vars(made)))
        canaries.store(connection, made.generation_id, taken)
    return made


def open_embedder(clients: IndexClients, generation: Generation) -> Embedder:
    """The embedder that makes the generation's vectors. It may raise the same error when it embeds its first text.

    Raises
    ------
    ChangedEmbedderError
        If what its name stands for has changed: its vectors must not be mixed with those that are stored.
    """
    embedder = clients.embedder_of(generation.embedder)
    if embedder.fingerprint != generation.fingerprint["embed"]:
        raise canaries.ChangedEmbedderError(
            f"The embedder `{generation.embedder.get('name')}` of source `{generation.source}` is not the one its index was built with.",
            hint=f"Build a new generation: `affinage index rebuild {generation.source}`.",
        )
    return guarded(clients, generation, embedder)


def guarded(clients: IndexClients, generation: Generation, embedder: Embedder) -> Embedder:
    """`embedder`, which looks at the generation's canaries before it embeds its first text; itself when there are none."""
    with clients.database.read() as connection:
        expected = canaries.stored(connection, [generation.generation_id])
    if not expected:
        return embedder
    error = canaries.changed(embedder=generation.embedder.get("name"), source=generation.source)
    return canaries.GuardedEmbedder(embedder, expected=expected, error=error)


def set_state(connection: Connection, generation_id: str, state: str) -> None:
    """Move a generation to `state`."""
    connection.execute(update(table).where(table.c.generation_id == generation_id).values(state=state))


def forget_generation(connection: Connection, generation_id: str) -> set[str]:
    """Remove a generation from the ledger; returns the extracts it referred to."""
    query = select(document_revision.c.extract_hash).where(document_revision.c.generation_id == generation_id).distinct()
    hashes = set(connection.execute(query).scalars())
    for owned in (canary, chunk, document_revision, intent, table):
        connection.execute(delete(owned).where(owned.c.generation_id == generation_id))
    return hashes
