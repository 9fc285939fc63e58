"""Metrics of the index, from the record of truth: a process that indexes is gone before anybody reads its own."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select

from affinage.database.engine import Database
from affinage.database.tables.index import index_run
from affinage.declarations.repository import list_sources
from affinage.index import ledger
from affinage.index.runs import held_documents, is_sync_of, last_listed_at
from affinage.telemetry import Metrics

STATES = ("indexed", "failed")


class IndexMetrics:
    """What Prometheus is shown of the index by a process that does not index.

    Runs are counted from the first look on: those before it were counted by another process, or by nobody.
    """

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._metrics = metrics
        self._counted: dict[str, datetime | None] = {}
        """When the last run began that was counted, by source; None before the first."""

    def refresh(self) -> None:
        """Documents by state and held, the time of the last good run, and the runs since the last look, for every declared source."""
        with self._database.read() as connection:
            for source in [spec.name for spec in list_sources(connection)]:
                self._set(connection, source)
                self._count(connection, source)

    def _set(self, connection: Connection, source: str) -> None:
        states = ledger.count_states(connection, source)
        for state in STATES:
            self._metrics.index_documents.labels(source, state).set(states.get(state, 0))
        self._metrics.index_held_documents.labels(source).set(held_documents(connection, source))
        last = last_listed_at(connection, source)
        if last is not None:
            self._metrics.index_last_success.labels(source).set(last.timestamp())

    def _count(self, connection: Connection, source: str) -> None:
        embedded, duration = self._metrics.index_embedded_chunks.labels(source), self._metrics.index_sync_duration.labels(source)
        if source not in self._counted:
            self._counted[source] = connection.execute(select(func.max(index_run.c.started_at)).where(is_sync_of(source))).scalar()
            return
        since = self._counted[source]
        query = select(index_run.c.report, index_run.c.started_at).where(is_sync_of(source)).order_by(index_run.c.started_at)
        # A row is written when its run has ended, and one run of a source ends before the next begins.
        for run in connection.execute(query if since is None else query.where(index_run.c.started_at > since)):
            embedded.inc(run.report["chunks"]["embedded"])
            duration.observe(run.report["seconds"])
            self._counted[source] = run.started_at
