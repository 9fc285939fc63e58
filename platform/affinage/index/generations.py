"""Build generations beside the one that serves, check them, and switch.

A new embedder or splitter leads to a new generation from cached extracts: each distinct text is embedded once, and the
sources are read again only when extraction itself changed. Counts, rows and a probe of rights must agree before a
generation may serve. `switch` keeps the former one for `rollback`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert

from affinage.database.tables.index import index_run
from affinage.declarations.model import SourceSpec
from affinage.declarations.repository import get_source
from affinage.documents.blocks import ExtractedDocument
from affinage.documents.extraction import extract_fingerprint
from affinage.errors import DocumentError, RefusedError, UnknownObjectError
from affinage.index import extracts, ledger
from affinage.index.builds import (
    BUILDING,
    READY,
    RETIRED,
    SERVING,
    Generation,
    create_generation,
    declared_embedder,
    fingerprint_of,
    forget_generation,
    get_generation,
    guarded,
    list_generations,
    serving_generations,
    set_state,
)
from affinage.index.clients import IndexClients
from affinage.index.identity import raw_hash
from affinage.index.leases import Lease, hold
from affinage.index.revisions import ChunkCounts, purge, recover
from affinage.index.stores.protocol import Rights
from affinage.index.upkeep import Extracted, catch_up, lease_name, patch_rights, waiting
from affinage.index.verify import VerifyReport, verify_generation

__all__ = ["BuildReport", "SwitchReport", "build_generation", "declared_embedder", "rollback", "serving_generations", "switch"]


@dataclass(frozen=True)
class BuildReport:
    """What a build did. `generation_id` may be one that existed: building is idempotent."""

    generation_id: str
    source: str
    embedder: Mapping[str, Any]
    state: str
    documents: int
    chunks: ChunkCounts = field(default_factory=ChunkCounts)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The keys of `affinage index rebuild --json`."""
        return asdict(self)


@dataclass(frozen=True)
class SwitchReport:
    """Which generation serves now, and which did before."""

    source: str
    generation_id: str
    previous: str | None
    dropped: list[str]

    def as_dict(self) -> dict[str, Any]:
        """The keys of `affinage index switch --json`."""
        return asdict(self)


def check_generation(clients: IndexClients, generation: Generation) -> list[str]:
    """Why the generation may not serve; empty when it may."""
    name = generation.generation_id
    reasons = []
    with clients.database.read() as connection:
        behind = ledger.lagging(connection, source=generation.source, generation_id=name)
        chunks = ledger.stored_chunks(connection, generation_id=name)
        open_intents = ledger.intents(connection, [name])
    if behind:
        reasons.append(f"{len(behind)} documents are missing or not of their last content")
    if open_intents:
        reasons.append(f"{len(open_intents)} rows are not settled")
    expected = {c.row_id for c in chunks}
    rows = [row.row_id for row in clients.store.scan(name)]
    if len(rows) != len(set(rows)) or set(rows) != expected:
        reasons.append(f"the store has {len(rows)} rows where the ledger has {len(expected)}, or other ones")
    dimensions = clients.embedder_of(generation.embedder).dimensions
    probe = clients.store.vector_search(name, np.ones(dimensions, dtype=np.float32), rights=Rights(frozenset({"user:"})), limit=1)
    if probe:
        reasons.append("a reader without rights was given a row")
    return reasons


def build_generation(clients: IndexClients, source: str, *, embedder: Mapping[str, Any] | None = None) -> BuildReport:
    """Build a generation of `source` beside the one that serves, and check it.

    Parameters
    ----------
    embedder
        As `embedder_of` takes it; default: the declared one.

    Returns
    -------
    BuildReport
        Of a generation that is `ready`, or that serves already with this very fingerprint.

    Raises
    ------
    RefusedError
        If the check fails.
    """
    started = time.monotonic()
    with clients.database.read() as connection:
        spec = get_source(connection, source)
    wanted = dict(embedder) if embedder is not None else declared_embedder(spec)
    opened = clients.embedder_of(wanted)
    fingerprint = fingerprint_of(opened, store=clients.store.fingerprint, xml=spec.xml)
    with hold(clients.database, lease_name(source), now=clients.now, on_wait=waiting(clients, source)) as lease:
        with clients.database.read() as connection:
            known = list_generations(connection, source)
        generation = next((g for g in known if g.fingerprint == fingerprint and g.state in {BUILDING, READY, SERVING}), None)
        if generation is None:
            generation = create_generation(
                clients, lease, source=source, embedder=wanted, opened=opened, fingerprint=fingerprint, state=BUILDING
            )
        else:
            opened = guarded(clients, generation, opened)
        recover(clients, generation_ids=[generation.generation_id])
        counts = catch_up(clients, lease, generation, embedder=opened, extracted=_extracted(clients, spec))
        counts.add(patch_rights(clients, lease, generation_ids=[generation.generation_id]))
        purge(clients, lease, generation_ids=[generation.generation_id])
        # One that exists already may have lost rows, or all of them.
        repaired = VerifyReport()
        verify_generation(clients, lease, generation, repaired, repair=True)
        counts.add(ChunkCounts(embedded=repaired.embedded, written=repaired.missing + repaired.stale, deleted=repaired.orphaned))
        _demand(clients, generation)
        state = READY if generation.state == BUILDING else generation.state
        with clients.database.write() as connection:
            lease.check(connection)
            set_state(connection, generation.generation_id, state)
            documents = ledger.count_served(connection, generation.generation_id)
    return BuildReport(generation.generation_id, source, wanted, state, documents, counts, round(time.monotonic() - started, 3))


def switch(clients: IndexClients, source: str, *, generation_id: str | None = None) -> SwitchReport:
    """Make a generation serve: the named one, or the newest that is ready.

    It is brought up to date and checked first. The former one is kept for `rollback`; older ones are dropped.

    Raises
    ------
    RefusedError
        If the check fails; the former generation goes on serving.
    """

    def choose(known: Sequence[Generation]) -> str:
        return generation_id or _target(known, source, READY, "rebuild")

    return _move(clients, source, choose, "switch")


def rollback(clients: IndexClients, source: str) -> SwitchReport:
    """Make the generation serve that served before the last switch."""
    return _move(clients, source, lambda known: _target(known, source, RETIRED, "switch"), "rollback")


def _target(known: Sequence[Generation], source: str, state: str, verb: str) -> str:
    found = [g for g in known if g.state == state]
    if not found:
        raise UnknownObjectError(f"{state} generation of source", source, hint=f"Make one: `affinage index {verb} {source}`.")
    return found[-1].generation_id


def _move(clients: IndexClients, source: str, choose: Callable[[Sequence[Generation]], str], action: str) -> SwitchReport:
    started_at = clients.now()
    with clients.database.read() as connection:
        get_source(connection, source)
    with hold(clients.database, lease_name(source), now=clients.now, on_wait=waiting(clients, source)) as lease:
        with clients.database.read() as connection:
            known = list_generations(connection, source)
            target = get_generation(connection, choose(known))
        if target.source != source or target.state == BUILDING:
            raise UnknownObjectError("finished generation", target.generation_id, hint=f"Build one: `affinage index rebuild {source}`.")
        recover(clients, generation_ids=[target.generation_id])
        catch_up(clients, lease, target)
        patch_rights(clients, lease, generation_ids=[target.generation_id])
        purge(clients, lease, generation_ids=[target.generation_id])
        _demand(clients, target)
        serving = next((g for g in known if g.state == SERVING and g.generation_id != target.generation_id), None)
        old = [g for g in known if g.state == RETIRED and g.generation_id != target.generation_id] if serving else []
        hashes: set[str] = set()
        report = SwitchReport(source, target.generation_id, serving.generation_id if serving else None, [g.generation_id for g in old])
        with clients.database.write() as connection:
            lease.check(connection)
            if serving is not None:
                set_state(connection, serving.generation_id, RETIRED)
            set_state(connection, target.generation_id, SERVING)
            for generation in old:
                hashes |= forget_generation(connection, generation.generation_id)
            _record(connection, clients, report, action=action, lease=lease, started_at=started_at)
        _drop(clients, old, hashes)
    return report


def _drop(clients: IndexClients, generations: Sequence[Generation], hashes: set[str]) -> None:
    for generation in generations:
        clients.store.drop(generation.generation_id)
    with clients.database.read() as connection:
        unused = hashes - ledger.referenced_extracts(connection, hashes)
        used = {g.fingerprint["embed"] for g in list_generations(connection)}
    for name in sorted(unused):
        clients.blobs.delete(extracts.blob_name(name))
    for generation in generations:
        if generation.fingerprint["embed"] not in used:
            clients.cache.remove_embedder(generation.fingerprint["embed"])


def _record(connection: Connection, clients: IndexClients, report: SwitchReport, *, action: str, lease: Lease, started_at: Any) -> None:
    connection.execute(
        insert(index_run).values(
            run_id=clients.new_id(), source=report.source, fence=lease.fence, action=action, status="complete", report=report.as_dict(),
            started_at=started_at, ended_at=clients.now(), confirmed_deletes=False,
        )
    )  # fmt: skip


def _demand(clients: IndexClients, generation: Generation) -> None:
    reasons = check_generation(clients, generation)
    if reasons:
        raise RefusedError(
            f"Generation `{generation.generation_id}` of source `{generation.source}` may not serve: {'; '.join(reasons)}.",
            reasons=reasons,
            hint="Run `affinage index verify --repair`, then again.",
        )


def _extracted(clients: IndexClients, spec: SourceSpec) -> Extracted:
    """Extracts as the present extraction makes them: the cached ones if it made them, else from the source again."""
    opened = clients.places.open(spec)

    def load(document: ledger.Lagging) -> tuple[ExtractedDocument, str, bytes | None]:
        content, extractor = extracts.load(clients.blobs, document.extract_hash)
        if extractor == extract_fingerprint(spec.xml):
            return content, document.extract_hash, None
        try:
            data = opened.read(document.path)
            if raw_hash(data) != document.raw_hash:
                return content, document.extract_hash, None  # changed since the last sync; the next one reads it
            content = clients.extract(data, path=document.path, xml=spec.xml)
        except DocumentError:
            return content, document.extract_hash, None  # gone or damaged since; the next sync reports it
        extract_hash, encoded = extracts.encode(content, source=spec.name, extractor=extract_fingerprint(spec.xml))
        return content, extract_hash, encoded

    return load
