"""Gauges of the index, from the record of truth: a process that indexes may be gone before anybody reads its own."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from affinage.database.engine import Database
from affinage.database.tables.index import index_run
from affinage.declarations.repository import list_sources
from affinage.index import ledger
from affinage.index.reports import COMPLETE, PARTIAL
from affinage.telemetry import Metrics

STATES = ("indexed", "failed")
LISTED = (COMPLETE, PARTIAL)
"""Runs that listed the whole source; one that is held waits for a person."""


def set_index_gauges(database: Database, metrics: Metrics) -> None:
    """Documents by state and the time of the last good run, for every declared source."""
    with database.read() as connection:
        for source in [spec.name for spec in list_sources(connection)]:
            set_source_gauges(connection, source, metrics)


def set_source_gauges(connection: Connection, source: str, metrics: Metrics) -> None:
    """The same for one source."""
    states = ledger.count_states(connection, source)
    for state in STATES:
        metrics.index_documents.labels(source, state).set(states.get(state, 0))
    good = (index_run.c.source == source) & (index_run.c.action == "sync") & index_run.c.status.in_(LISTED)
    last = connection.execute(select(func.max(index_run.c.ended_at)).where(good)).scalar()
    if last is not None:
        metrics.index_last_success.labels(source).set(last.timestamp())
