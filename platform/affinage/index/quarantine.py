"""When a document that could not be read is tried again. Pure.

Most failures lie in the bytes: they stand until the bytes change, or what reads them. Some may lie in the machine (too slow,
too little memory, a process that ended), or in both: those are tried again, less and less often, since each trial may cost as
much as the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from affinage.errors import DocumentError
from affinage.index.plan import Known

FIRST_RETRY = timedelta(hours=1)
LONGEST_RETRY = timedelta(days=7)
# After eight trials.


@dataclass(frozen=True)
class Failure:
    """Why a document is not read, how often its bytes were tried, and when they are tried again (None: when something changes)."""

    record: Mapping[str, Any]
    attempts: int
    retry_at: datetime | None


def failure_of(error: DocumentError, *, known: Known | None, raw_hash: str | None, extractor: str, now: datetime) -> Failure:
    """What to record of `error`, met in the bytes with this hash (None: they could not even be read)."""
    record = {"reason": error.reason, "message": error.message, "hint": error.hint, "extractor": extractor, "raw_hash": raw_hash}
    again = known is not None and raw_hash is not None and _same(known, raw_hash, extractor)
    attempts = 1 + (known.attempts if known is not None and again else 0)
    retry_at = now + min(FIRST_RETRY * 2 ** min(attempts - 1, 30), LONGEST_RETRY) if error.retryable else None
    return Failure(record, attempts, retry_at)


def standing(known: Known, *, raw_hash: str, extractor: str, now: datetime) -> Failure | None:
    """The recorded failure, if trying the same bytes again is pointless now."""
    if not _same(known, raw_hash, extractor) or is_due(known, now=now):
        return None
    return Failure(known.failure or {}, known.attempts, known.retry_at)


def is_due(known: Known, *, now: datetime) -> bool:
    """Whether the time of another trial has come."""
    return known.failed and known.retry_at is not None and known.retry_at <= now


def _same(known: Known, raw_hash: str, extractor: str) -> bool:
    failure = known.failure or {}
    return known.failed and failure.get("raw_hash") == raw_hash and failure.get("extractor") == extractor
