"""How a source stands, from the ledger and the record of runs alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from affinage.database.tables.index import source_hint
from affinage.index import ledger
from affinage.index.builds import SERVING, list_generations
from affinage.index.hints import hinted_sources
from affinage.index.reports import LISTED
from affinage.index.runs import Saved, as_entry, held_documents, last_sync, saved_by_reuse


@dataclass(frozen=True)
class SourceStatus:
    """How a source stands.

    `states` counts documents by state, `held` those that are missing and wait for confirmation. `failures` are the documents that
    could not be read, by path, with reason and next trial. `last_complete_scan` is the last run that listed everything and held
    nothing back, with its age; `open_intents` are rows that a run left for the next to settle, or that one is writing now.
    `sync_due`: somebody said at `hinted_at` that the source has changed, and no sync has answered.
    """

    source: str
    generation: str | None
    embedder: str | None
    documents: int
    failed: int
    held: int
    states: dict[str, int]
    chunks: int
    pending_rights: int
    open_intents: int
    sync_due: bool
    hinted_at: datetime | None
    last_complete_scan: dict[str, Any] | None
    last_run: dict[str, Any] | None
    saved: Saved
    generations: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """One entry of `affinage index status --json`."""
        return asdict(self)


def source_status(connection: Connection, source: str, *, now: datetime) -> SourceStatus:
    """How `source` stands at `now`."""
    generations = list_generations(connection, source)
    serving = next((g for g in generations if g.state == SERVING), None)
    states = ledger.count_states(connection, source)
    last = last_sync(connection, source)
    due = source in hinted_sources(connection)
    asked_at = connection.execute(select(source_hint.c.asked_at).where(source_hint.c.source == source)).scalar() if due else None
    return SourceStatus(
        source=source,
        generation=serving.generation_id if serving else None,
        embedder=_embedder_name(serving.embedder) if serving else None,
        documents=sum(states.values()),
        failed=states.get("failed", 0),
        held=held_documents(connection, source),
        states=states,
        chunks=ledger.count_chunks(connection, generation_id=serving.generation_id) if serving else 0,
        pending_rights=len(ledger.pending_rights(connection, [serving.generation_id])) if serving else 0,
        open_intents=ledger.count_intents(connection, [g.generation_id for g in generations]),
        sync_due=due,
        hinted_at=asked_at,
        last_complete_scan=_last_complete_scan(connection, source, now=now),
        last_run=None if last is None else as_entry(last),
        saved=saved_by_reuse(connection, source),
        generations=[{"generation": g.generation_id, "state": g.state, "embedder": _embedder_name(g.embedder)} for g in generations],
        failures=ledger.failures(connection, source),
    )


def _last_complete_scan(connection: Connection, source: str, *, now: datetime) -> dict[str, Any] | None:
    found = last_sync(connection, source, statuses=LISTED)
    if found is None:
        return None
    # From its beginning on: what changed while it ran, it may have missed.
    age = max((now - found.started_at).total_seconds(), 0.0)
    return {
        "run_id": found.run_id,
        "status": found.status,
        "started_at": found.started_at,
        "ended_at": found.ended_at,
        "age_seconds": round(age, 3),
    }


def _embedder_name(embedder: Any) -> str:
    adapter = embedder.get("adapter")
    return f"{embedder['name']}+{adapter}" if adapter else str(embedder["name"])
