"""Bring a source into the ledger and the store: what changed, and nothing else.

One run holds the source's lease: it finishes what an earlier run left behind, lists, compares, then writes changes in
small batches, then deletions, then rights, and ends with one row that says what it did. It may be killed at any
instruction: the next run goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from affinage.database.tables.declarations import source as source_table
from affinage.database.tables.index import index_run
from affinage.declarations.model import SourceSpec
from affinage.declarations.repository import get_source
from affinage.documents.chunking import split
from affinage.documents.extraction import extract_fingerprint, reader_fingerprint
from affinage.documents.sources import Source
from affinage.engines.protocols import Embedder
from affinage.errors import AffinageError, ConflictError
from affinage.index import extracts, ledger
from affinage.index.builds import (
    FOLLOWING,
    SERVING,
    Generation,
    create_generation,
    declared_embedder,
    fingerprint_of,
    list_generations,
    open_embedder,
)
from affinage.index.canaries import ChangedEmbedderError
from affinage.index.clients import IndexClients
from affinage.index.leases import Lease, hold
from affinage.index.metering import MeteredEmbedder
from affinage.index.quarantine import failure_of
from affinage.index.reports import COMPLETE, FAILED, HELD, PARTIAL, SyncReport
from affinage.index.revisions import Revision, delete_documents, purge, recover, write_revisions
from affinage.index.survey import AllowOf, Inspected, Survey, inspect, survey
from affinage.index.upkeep import ahead, catch_up, in_batches, lease_name, not_embedded, patch_rights, waiting

ATTEMPTS = 5
# A declaration that changes in the middle of a run makes the run start again; somebody who keeps changing it hears of it.


class _DeclarationChangedError(Exception):
    """The source's declaration is not the one this run began with."""


def sync_source(clients: IndexClients, source: str, *, confirm_deletes: bool = False, run_id: str | None = None) -> SyncReport:
    """Index what changed in `source`.

    A second caller waits, and returns the result of the run it waited for.

    Parameters
    ----------
    confirm_deletes
        Also delete when more documents are missing than the brake allows.
    run_id
        Shared by the sources of one command.

    Returns
    -------
    SyncReport
        `partial` when documents failed, `held` when deletions wait for confirmation.

    Raises
    ------
    UnknownObjectError
        If the source is not declared.
    DependencyError
        If it cannot be listed, or a store fails. What was written stays; running again goes on.
    """
    with clients.database.read() as connection:
        get_source(connection, source)
    with hold(clients.database, lease_name(source), now=clients.now, on_wait=waiting(clients, source)) as lease:
        if lease.waited_for is not None:
            with clients.database.read() as connection:
                finished = _finished_since(connection, source, fence=lease.waited_for, confirmed=confirm_deletes)
            if finished is not None:
                return finished
        run = _Run(clients, lease, source, SyncReport(run_id or clients.new_id()), clients.now(), confirm_deletes)
        started = time.monotonic()
        try:
            run.go()
        except AffinageError as error:
            run.report.status = FAILED
            run.end(started, error={"type": type(error).__name__, "message": error.message})
            raise
        run.end(started)
    return run.report


def _finished_since(connection: Connection, source: str, *, fence: int, confirmed: bool) -> SyncReport | None:
    query = select(index_run.c.report, index_run.c.confirmed_deletes).where(
        index_run.c.source == source, index_run.c.fence >= fence, index_run.c.action == "sync", index_run.c.status != FAILED
    )
    row = connection.execute(query.order_by(index_run.c.fence.desc())).first()
    return SyncReport.from_dict(row.report) if row is not None and (row.confirmed_deletes or not confirmed) else None


@dataclass
class _Run:
    """One run under its lease."""

    clients: IndexClients
    lease: Lease
    source: str
    report: SyncReport
    started_at: datetime
    confirm_deletes: bool
    spec: SourceSpec = field(init=False)
    generations: list[Generation] = field(init=False)

    def go(self) -> None:
        """Do it, and do it again when the declaration changes meanwhile: rights of new documents follow from it."""
        for _ in range(ATTEMPTS):
            run_id = self.report.run_id
            self.report = SyncReport(run_id)
            try:
                self._once()
            except _DeclarationChangedError:
                continue
            return
        raise ConflictError(f"The declaration of source `{self.source}` keeps changing.", hint="Run the sync again.", retryable=True)

    def _once(self) -> None:
        clients = self.clients
        with clients.database.read() as connection:
            self.spec = get_source(connection, self.source)
            self.generations = list_generations(connection, self.source)
        recover(clients, generation_ids=self._ids())
        opened = clients.places.open(self.spec)
        found, allow = survey(clients.database, self.spec, opened, now=clients.now())
        clients.progress(f"{self.source}: {found.seen} listed, {len(found.added)} new, {len(found.missing)} missing")
        clients.reached("surveyed")
        counts = self.report.documents
        counts.seen, counts.unsupported, counts.unchanged = found.seen, found.unsupported, found.unchanged
        counts.failed = found.still_failed
        self.report.bytes_not_read = found.bytes_not_read
        self._write_rights(found)
        self._write_moves(found, allow)
        self._write_contents(found, opened, allow)
        self._write_deletions(found)
        for generation in self.generations:
            if generation.state in FOLLOWING:
                self._follow(generation)
        self.report.chunks.add(patch_rights(clients, self.lease, generation_ids=self._ids()))
        purge(clients, self.lease, generation_ids=self._ids())
        self.report.status = HELD if counts.held else PARTIAL if counts.failed else COMPLETE

    def _follow(self, generation: Generation) -> None:
        try:
            self.report.chunks.add(catch_up(self.clients, self.lease, generation))
        except ChangedEmbedderError:
            # What nobody can embed for any more must not keep the generation that serves from its documents.
            if generation.state == SERVING:
                raise
            self.clients.progress(f"{self.source}: generation {generation.generation_id} is left behind: its embedder has changed")

    def _ids(self) -> list[str]:
        return [g.generation_id for g in self.generations]

    def _still_declared(self, connection: Connection) -> None:
        query = select(source_table.c.spec).where(source_table.c.name == self.source, source_table.c.removed_at.is_(None)).with_for_update()
        row = connection.execute(query).first()
        if row is None or row.spec != self.spec.model_dump(mode="json"):
            raise _DeclarationChangedError

    def _write(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Write columns of documents, the same ones for all, by document."""
        for some in ledger.parts(documents):
            with self.clients.database.write() as connection:
                self.lease.check(connection)
                self._still_declared(connection)
                ledger.put_documents(connection, {key: documents[key] for key in some})

    def _write_rights(self, found: Survey) -> None:
        at = self.clients.now()
        self._write({known.doc_key: {"allow": list(label), "updated_at": at} for known, label in found.rights})

    def _write_moves(self, found: Survey, allow: AllowOf) -> None:
        at = self.clients.now()
        self._write(
            {
                known.doc_key: {
                    "path": listed.path,
                    "signature": found.signature(listed),
                    "allow": list(allow(listed)),
                    "updated_at": at,
                }
                for listed, known in found.moved
            }
        )
        self.report.documents.moved = len(found.moved)
        self.clients.reached("moved")

    def _write_contents(self, found: Survey, opened: Source, allow: AllowOf) -> None:
        settled: list[Inspected] = []
        generation: Generation | None = None
        embedder: Embedder | None = None
        # By document: what was read and is not written yet.
        reading: dict[str, Inspected] = {}
        refused: list[Inspected] = []

        def revisions() -> Iterator[Revision]:
            nonlocal generation, embedder
            for item in inspect(opened, found, extract=self.clients.extract, xml=self.spec.xml, now=self.clients.now()):
                self._count(item)
                self.clients.watch.inspected(settled=item.document is None)
                if item.document is None:
                    settled.append(item)
                    continue
                if embedder is None:
                    generation, opened_embedder = self._serving()
                    embedder = MeteredEmbedder(opened_embedder, self.report.embedding)
                revision = self._revision(item, found, allow, embedder)
                reading[revision.doc_key] = replace(item, document=None)
                yield revision

        self.clients.watch.began(self.source, documents=len(found.suspects) + len(found.added))
        with closing(ahead(in_batches(revisions()))) as batches:
            for batch in batches:
                if generation is None or embedder is None:
                    raise ValueError("a revision came before its generation")
                name = generation.generation_id
                self.clients.watch.writing(documents=len(batch), chunks=sum(len(revision.chunks) for revision in batch))
                counts = write_revisions(
                    self.clients,
                    self.lease,
                    generation_id=name,
                    embedder=embedder,
                    documents=batch,
                    still_valid=self._still_declared,
                    on_refused=lambda revision: refused.append(reading[revision.doc_key]),
                )
                for revision in batch:
                    del reading[revision.doc_key]
                self.report.chunks.add(counts)
                self.clients.watch.written()
                self.clients.store.maintain(name)
        # Only now: the counts belong to the thread that reads ahead until it has ended.
        settled += [self._refused(item) for item in refused]
        self._write(dict(self._settled(item, found, allow) for item in settled))

    def _count(self, item: Inspected) -> None:
        counts = self.report.documents
        if item.failure is not None:
            counts.failed += 1
        elif item.document is None:
            counts.unchanged += 1
        elif item.known is None or item.known.raw_hash is None:
            counts.added += 1
        else:
            counts.changed += 1

    def _refused(self, item: Inspected) -> Inspected:
        """A document that was read, and that the embedder will not take: it failed after all."""
        counts = self.report.documents
        if item.known is None or item.known.raw_hash is None:
            counts.added -= 1
        else:
            counts.changed -= 1
        counts.failed += 1
        reader = reader_fingerprint(self.spec.xml)
        error = not_embedded(item.listed.path)
        failure = failure_of(error, known=item.known, raw_hash=item.raw_hash, extractor=reader, now=self.clients.now())
        return replace(item, document=None, failure=failure)

    def _serving(self) -> tuple[Generation, Embedder]:
        serving = next((g for g in self.generations if g.state == SERVING), None)
        if serving is not None:
            embedder = open_embedder(self.clients, serving)
            # A store that was wiped gets its table back; `index verify --repair` brings the rows.
            self.clients.store.ensure(serving.generation_id, dimensions=embedder.dimensions)
            return serving, embedder
        wanted = declared_embedder(self.spec)
        embedder = self.clients.embedder_of(wanted)
        fingerprint = fingerprint_of(embedder, store=self.clients.store.fingerprint, xml=self.spec.xml)
        made = create_generation(
            self.clients,
            self.lease,
            source=self.source,
            embedder=wanted,
            opened=embedder,
            fingerprint=fingerprint,
            state=SERVING,
        )
        self.generations.append(made)
        return made, embedder

    def _revision(self, item: Inspected, found: Survey, allow: AllowOf, embedder: Embedder) -> Revision:
        if item.document is None or item.raw_hash is None:
            raise ValueError(f"nothing was extracted from {item.listed.path!r}")
        extract_hash, data = extracts.encode(item.document, source=self.source, extractor=extract_fingerprint(self.spec.xml))
        label = allow(item.listed)
        return Revision(
            doc_key=item.known.doc_key if item.known else self.clients.new_id(),
            raw_hash=item.raw_hash,
            extract_hash=extract_hash,
            allow=label,
            chunks=split(item.document, count_tokens=embedder.count_tokens, max_tokens=embedder.max_tokens),
            extract=data,
            document={
                **self._columns(item, found, label),
                "raw_hash": item.raw_hash,
                "extract_hash": extract_hash,
                "title": item.document.title,
                "language": item.document.language,
            },
        )

    def _columns(self, item: Inspected, found: Survey, label: tuple[str, ...]) -> dict[str, Any]:
        return {
            "source": self.source,
            "path": item.listed.path,
            "signature": found.signature(item.listed),
            "allow": list(label),
            "state": "indexed",
            "failure": None,
            "attempts": None,
            "retry_at": None,
            "updated_at": self.clients.now(),
        }

    def _settled(self, item: Inspected, found: Survey, allow: AllowOf) -> tuple[str, dict[str, Any]]:
        """The columns of a document that needs no new rows: its bytes are as before, or it failed."""
        values = self._columns(item, found, allow(item.listed))
        if item.failure is not None:
            values.update(state="failed", failure=dict(item.failure.record), attempts=item.failure.attempts, retry_at=item.failure.retry_at)
            if item.raw_hash is None:
                values["signature"] = None  # it could not even be read: try again each time
        return item.known.doc_key if item.known else self.clients.new_id(), values

    def _write_deletions(self, found: Survey) -> None:
        if found.held and not self.confirm_deletes:
            self.report.documents.held = len(found.missing)
            return
        for some in ledger.parts([known.doc_key for known in found.missing]):
            self.report.chunks.add(delete_documents(self.clients, self.lease, some, still_valid=self._still_declared))
        self.report.documents.deleted = len(found.missing)

    def end(self, started: float, *, error: dict[str, str] | None = None) -> None:
        """Record the run in one row."""
        report, clients = self.report, self.clients
        report.seconds = round(time.monotonic() - started, 3)
        stored = report.as_dict() | ({"error": error} if error else {})
        with clients.database.write() as connection:
            if error is None:
                self.lease.check(connection)  # a run that was replaced is not reported as done
            connection.execute(
                insert(index_run).values(
                    run_id=report.run_id, source=self.source, fence=self.lease.fence, action="sync", status=report.status, report=stored,
                    started_at=self.started_at, ended_at=clients.now(), confirmed_deletes=self.confirm_deletes,
                )
            )  # fmt: skip
