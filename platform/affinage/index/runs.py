"""What happened to the index, run by run: syncs, switches and rollbacks, and what can be learnt from them. Queries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select

from affinage.database.tables.index import index_run
from affinage.declarations.repository import list_sources
from affinage.errors import UnknownObjectError
from affinage.index.reports import FAILED, LISTED

RUNS_LOOKED_AT = 1_000
# An hourly source that embeds nothing for six weeks; reading that many takes some 10 ms.
RUNS_AVERAGED = 5
# Enough to even out a busy hour, few enough to follow a change of machine.


def list_runs(connection: Connection, source: str | None = None, *, limit: int) -> list[dict[str, Any]]:
    """The last runs of a source, or of all, the newest first.

    Raises
    ------
    UnknownObjectError
        If the source has no run and is not declared; one that was removed keeps its history.
    """
    query = select(index_run).order_by(index_run.c.ended_at.desc(), index_run.c.source, index_run.c.fence.desc())
    if source is not None:
        query = query.where(index_run.c.source == source)
    rows = connection.execute(query.limit(limit)).all()
    if source is not None and not rows and source not in {spec.name for spec in list_sources(connection)}:
        raise UnknownObjectError("source", source, hint="`affinage source list` shows those declared.")
    return [as_entry(row) for row in rows]


def as_entry(row: Row[Any]) -> dict[str, Any]:
    """A run as `affinage index runs` shows it: `generation` and `previous` are of a switch or rollback, the counts of a sync."""
    report = row.report
    elapsed = None if row.ended_at is None else round((row.ended_at - row.started_at).total_seconds(), 3)
    return {
        "run_id": row.run_id,
        "source": row.source,
        "action": row.action,
        "status": row.status,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "seconds": report.get("seconds", elapsed),
        "documents": report.get("documents"),
        "chunks": report.get("chunks"),
        "confirmed_deletes": row.confirmed_deletes,
        "generation": report.get("generation_id"),
        "previous": report.get("previous"),
        "error": report.get("error"),
    }


def last_sync(connection: Connection, source: str, *, statuses: tuple[str, ...] | None = None) -> Row[Any] | None:
    """The last sync of a source, or the last that ended in one of `statuses`."""
    query = select(index_run).where(is_sync_of(source)).order_by(index_run.c.fence.desc()).limit(1)
    if statuses is not None:
        query = query.where(index_run.c.status.in_(statuses))
    return connection.execute(query).first()


def held_documents(connection: Connection, source: str) -> int:
    """Documents that are missing and wait for somebody to confirm that they are gone.

    A run that failed since then listed nothing, and changes nothing about that.
    """
    last = connection.execute(
        select(index_run.c.report).where(is_sync_of(source), index_run.c.status != FAILED).order_by(index_run.c.fence.desc()).limit(1)
    ).scalar()
    return int(last["documents"]["held"]) if last is not None else 0


@dataclass(frozen=True)
class Saved:
    """What all syncs of a source together did not have to do, as far as their reports tell.

    `vectors` are chunks of new or changed documents that were not embedded; of documents that did not change at all none are
    counted. `bytes_not_read` since `bytes_known_since`: older reports do not tell.
    """

    runs: int
    vectors: int
    bytes_not_read: int
    bytes_known_since: datetime | None


def saved_by_reuse(connection: Connection, source: str) -> Saved:
    """Sum up the reports of all syncs of `source`."""
    runs = vectors = not_read = 0
    since: datetime | None = None
    query = select(index_run.c.report, index_run.c.started_at).where(is_sync_of(source)).order_by(index_run.c.fence)
    for row in connection.execute(query):
        runs += 1
        vectors += row.report["chunks"]["reused"]
        if "bytes_not_read" in row.report:
            since = since or row.started_at
            not_read += row.report["bytes_not_read"]
    return Saved(runs, vectors, not_read, since)


def characters_per_second(connection: Connection, source: str, *, embedder: str) -> float | None:
    """How fast the embedder with this fingerprint was in the last runs of `source`, or of any source if it has none yet.

    Returns
    -------
    float or None
        None when no run that is recorded embedded anything with it.
    """
    for scope in (is_sync_of(source), index_run.c.action == "sync"):
        if (found := _characters_per_second(connection, scope, embedder=embedder)) is not None:
            return found
    return None


def _characters_per_second(connection: Connection, scope: ColumnElement[bool], *, embedder: str) -> float | None:
    query = select(index_run.c.report).where(scope).order_by(index_run.c.started_at.desc()).limit(RUNS_LOOKED_AT)
    runs = characters = 0
    seconds = 0.0
    for report in connection.execute(query).scalars():
        work = report.get("embedding") or {}
        if work.get("embedder") == embedder and work["seconds"] > 0:
            runs, characters, seconds = runs + 1, characters + work["characters"], seconds + work["seconds"]
        if runs == RUNS_AVERAGED:
            break
    return characters / seconds if seconds else None


def last_listed_at(connection: Connection, source: str) -> datetime | None:
    """When the last sync ended that listed all of `source` and held nothing back."""
    return connection.execute(select(func.max(index_run.c.ended_at)).where(is_sync_of(source), index_run.c.status.in_(LISTED))).scalar()


def is_sync_of(source: str) -> ColumnElement[bool]:
    """Condition on `index_run`: a sync of this source."""
    return (index_run.c.source == source) & (index_run.c.action == "sync")
