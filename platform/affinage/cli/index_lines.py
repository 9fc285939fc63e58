"""What `affinage index` tells people of sources and runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from affinage.index.progress import duration
from affinage.index.status import SourceStatus

FAILURES_SHOWN = 20
# Of a source; `--json` has all.


def status_lines(status: SourceStatus) -> Iterator[str]:
    """A source in some lines, the first of which can stand alone."""
    s = status
    served = f"generation {s.generation or '-'} ({s.embedder or '-'})"
    yield f"{s.source}: {s.documents} documents, {s.failed} failed, {s.chunks} chunks, {served}"
    scan = s.last_complete_scan
    yield "  last complete scan: " + (f"{_at(scan['started_at'])}, {duration(scan['age_seconds'])} ago" if scan else "never")
    last = s.last_run
    if last is not None and (scan is None or last["run_id"] != scan["run_id"]):
        yield f"  last run: {last['status']}, {_at(last['ended_at'])}{_why(last)}"
    if s.held:
        confirm = f"affinage index sync {s.source} --confirm-deletes"
        yield f"  {s.held} documents are missing and not deleted; if they are gone for good: {confirm}"
    if s.sync_due and s.hinted_at is not None:
        yield f"  a sync is due: somebody said at {_at(s.hinted_at)} that it has changed"
    if s.open_intents or s.pending_rights:
        yield f"  to settle by the next sync: {s.open_intents} rows, rights of {s.pending_rights} documents"
    if s.saved.runs:
        yield f"  saved by reuse in {s.saved.runs} runs: {s.saved.vectors} vectors, {_bytes(s.saved.bytes_not_read)} not read"
    for failure in s.failures[:FAILURES_SHOWN]:
        again = f"tried again after {_at(failure['retry_at'])}" if failure["retry_at"] else "tried again when it changes"
        yield f"  {failure['path']}: {failure['message']} ({failure['reason']}; {again})"
    if len(s.failures) > FAILURES_SHOWN:
        yield f"  … and {len(s.failures) - FAILURES_SHOWN} more; `affinage index status --json` lists all"


def run_line(run: Mapping[str, Any]) -> str:
    """A run in one line."""
    did = f"generation {run['generation']} serves" if run["generation"] else ""
    if run["documents"] is not None:
        counts = [f"{count} {name}" for name, count in run["documents"].items() if count]
        counts += [f"{count} chunks {name}" for name, count in run["chunks"].items() if count]
        did = ", ".join(counts) or "nothing listed"
    return f"{_at(run['ended_at'])}  {run['source']}  {run['action']}  {run['status']}  {run['seconds']} s  {did}{_why(run)}"


def _why(run: Mapping[str, Any]) -> str:
    return f": {run['error']['message']}" if run["error"] else ""


def _at(instant: datetime | None) -> str:
    return "-" if instant is None else f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def _bytes(count: int) -> str:
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"
