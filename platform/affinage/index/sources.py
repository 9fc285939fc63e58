"""Sync several sources as one command does, and say how each stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from affinage.database.tables.index import index_run
from affinage.declarations.repository import list_sources
from affinage.errors import AffinageError, UnknownObjectError
from affinage.index import ledger
from affinage.index.builds import SERVING, list_generations
from affinage.index.clients import IndexClients
from affinage.index.preview import preview
from affinage.index.reports import SyncReport
from affinage.index.sync import sync_source


def sync_sources(clients: IndexClients, names: Sequence[str] = (), *, dry_run: bool = False, confirm_deletes: bool = False) -> SyncReport:
    """Sync the named sources, or all declared ones, and sum up.

    Parameters
    ----------
    dry_run
        Report what a sync would do, and do nothing.

    Raises
    ------
    AffinageError
        The first source's failure, after the others were synced.
    """
    with clients.database.read() as connection:
        wanted = declared_sources(connection, names)
    operation = preview if dry_run else sync_source
    run_id = clients.new_id()
    reports: list[SyncReport] = []
    failures: list[AffinageError] = []
    for name in wanted:
        try:
            reports.append(operation(clients, name, confirm_deletes=confirm_deletes, run_id=run_id))
        except AffinageError as error:
            clients.progress(f"{name}: failed: {error.message}")
            failures.append(error)
    if failures:
        raise failures[0]
    report = SyncReport.total(reports, run_id=run_id)
    if dry_run and report.tokens is None:
        report.tokens, report.estimated_seconds = 0, 0.0
    return report


def declared_sources(connection: Connection, names: Sequence[str] = ()) -> list[str]:
    """`names` without repetition, or all declared sources when none is named; an unknown name is an error."""
    known = [spec.name for spec in list_sources(connection)]
    for name in names:
        if name not in known:
            raise UnknownObjectError("source", name, hint="Declare it in YAML and run `affinage apply -f FILE`.")
    return list(dict.fromkeys(names)) or known


@dataclass(frozen=True)
class SourceStatus:
    """How a source stands. `failures` are the documents that could not be read, by path, with reason and next trial."""

    source: str
    generation: str | None
    embedder: str | None
    documents: int
    failed: int
    chunks: int
    pending_rights: int
    last_run: dict[str, Any] | None
    generations: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """One entry of `affinage index status --json`."""
        return asdict(self)


def source_status(connection: Connection, source: str) -> SourceStatus:
    """How `source` stands, from the ledger alone."""
    generations = list_generations(connection, source)
    serving = next((g for g in generations if g.state == SERVING), None)
    states = ledger.count_states(connection, source)
    query = select(index_run).where(index_run.c.source == source, index_run.c.action == "sync").order_by(index_run.c.fence.desc())
    last = connection.execute(query).first()
    return SourceStatus(
        source=source,
        generation=serving.generation_id if serving else None,
        embedder=_embedder_name(serving.embedder) if serving else None,
        documents=sum(states.values()),
        failed=states.get("failed", 0),
        chunks=ledger.count_chunks(connection, generation_id=serving.generation_id) if serving else 0,
        pending_rights=len(ledger.pending_rights(connection, [serving.generation_id])) if serving else 0,
        last_run=None if last is None else {"run_id": last.run_id, "status": last.status, "ended_at": last.ended_at},
        generations=[{"generation": g.generation_id, "state": g.state, "embedder": _embedder_name(g.embedder)} for g in generations],
        failures=ledger.failures(connection, source),
    )


def _embedder_name(embedder: Any) -> str:
    adapter = embedder.get("adapter")
    return f"{embedder['name']}+{adapter}" if adapter else str(embedder["name"])
