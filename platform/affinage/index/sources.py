"""Sync several sources as one command does."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from affinage.declarations.repository import list_sources
from affinage.errors import AffinageError, UnknownObjectError
from affinage.index.clients import IndexClients
from affinage.index.preview import preview
from affinage.index.reports import SyncReport
from affinage.index.sync import sync_source


def sync_sources(
    clients: IndexClients,
    names: Sequence[str] = (),
    *,
    dry_run: bool = False,
    confirm_deletes: bool = False,
    price_per_million_tokens: float = 0.0,
) -> SyncReport:
    """Sync the named sources, or all declared ones, and sum up.

    Parameters
    ----------
    dry_run
        Report what a sync would do, and do nothing.
    price_per_million_tokens
        Of embedding, for the cost that a dry run reports.

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
    if dry_run:
        report.tokens, report.estimated_seconds = report.tokens or 0, report.estimated_seconds or 0.0
        report.cost = round(report.tokens * price_per_million_tokens / 1e6, 6)
    return report


def declared_sources(connection: Connection, names: Sequence[str] = ()) -> list[str]:
    """`names` without repetition, or all declared sources when none is named; an unknown name is an error."""
    known = [spec.name for spec in list_sources(connection)]
    for name in names:
        if name not in known:
            raise UnknownObjectError("source", name, hint="Declare it in YAML and run `affinage apply -f FILE`.")
    return list(dict.fromkeys(names)) or known
