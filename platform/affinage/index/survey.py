"""The first half of a sync: what is listed against what is known. Reads, and writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from affinage.database.engine import Database
from affinage.declarations.model import SourceSpec
from affinage.documents.blocks import ExtractedDocument
from affinage.documents.extraction import Extract, format_of, reader_fingerprint
from affinage.documents.sources import Listed, Source, allow_of
from affinage.errors import DocumentError
from affinage.index import ledger, quarantine
from affinage.index.identity import raw_hash
from affinage.index.plan import Known, join, match_moves, must_hold
from affinage.index.quarantine import Failure

AllowOf = Callable[[Listed], tuple[str, ...]]


@dataclass
class Survey:
    """What one listing showed.

    `suspects` have another signature than recorded, or one that may not be trusted: only their bytes can tell. `rights`
    are documents whose access changed. `missing` are gone, moves not counted. `bytes_not_read` are those of the unchanged, where
    signatures tell the size.
    """

    seen: int = 0
    unsupported: int = 0
    unchanged: int = 0
    still_failed: int = 0
    added: list[Listed] = field(default_factory=list)
    suspects: list[tuple[Listed, Known]] = field(default_factory=list)
    moved: list[tuple[Listed, Known]] = field(default_factory=list)
    missing: list[Known] = field(default_factory=list)
    rights: list[tuple[Known, tuple[str, ...]]] = field(default_factory=list)
    held: bool = False
    bytes_not_read: int = 0
    scan_started_ns: int = 0

    def signature(self, listed: Listed) -> Mapping[str, Any] | None:
        """What to record of the listed signature: None when the file may still change without showing it."""
        return listed.signature.as_json() if listed.signature.is_settled(self.scan_started_ns) else None


def survey(database: Database, spec: SourceSpec, source: Source, *, now: datetime) -> tuple[Survey, AllowOf]:
    """List the source and compare it with the ledger; also the function that says who may read a path.

    Parameters
    ----------
    now
        Decides which failed documents are tried again.

    Raises
    ------
    DependencyError
        If the listing is not complete: nothing is concluded from a part of it.
    """
    # The clock that file systems stamp with, not the one that tests move.
    result = Survey(scan_started_ns=time.time_ns())
    allow = allow_of(spec, source)
    listing = source.listing()  # a web site is crawled here: no transaction waits for that
    with database.read() as connection:
        known = ledger.count_known(connection, spec.name)
        pairs = join(listing, ledger.stream_known(connection, spec.name))
        _compare(pairs, allow, result, reader=reader_fingerprint(spec.xml), now=now)
    if result.missing and result.added:
        _find_moves(source, result)
    result.held = must_hold(missing=len(result.missing), known=known, listed=result.seen)
    return result, allow


def _compare(pairs: Iterator[tuple[Listed | None, Known | None]], allow: AllowOf, result: Survey, *, reader: str, now: datetime) -> None:
    for listed, known in pairs:
        if listed is None:
            if known is not None:
                result.missing.append(known)
            continue
        result.seen += 1
        if known is None:
            if format_of(listed.path) is None:
                result.unsupported += 1
            else:
                result.added.append(listed)
            continue
        label = allow(listed)
        if label != known.allow:
            result.rights.append((known, label))
        signature = listed.signature.as_json()
        if known.signature != signature or _worth_another_try(known, reader, now):
            result.suspects.append((listed, known))
        elif known.failed:
            result.still_failed += 1
        else:
            result.unchanged += 1
            result.bytes_not_read += signature.get("size") or 0


def _worth_another_try(known: Known, reader: str, now: datetime) -> bool:
    return known.failed and ((known.failure or {}).get("extractor") != reader or quarantine.is_due(known, now=now))


def _find_moves(source: Source, result: Survey) -> None:
    hashes = {}
    for listed in result.added:
        try:
            hashes[listed.path] = raw_hash(source.read(listed.path))
        except DocumentError:
            continue  # reported when its turn comes
    moves = match_moves(hashes, result.missing)
    result.moved = [(listed, moves[listed.path]) for listed in result.added if listed.path in moves]
    gone = {known.doc_key for known in moves.values()}
    result.added = [listed for listed in result.added if listed.path not in moves]
    result.missing = [known for known in result.missing if known.doc_key not in gone]


@dataclass(frozen=True)
class Inspected:
    """One document after reading it: `document` is None when its bytes are those last indexed, or on failure."""

    listed: Listed
    known: Known | None
    raw_hash: str | None
    document: ExtractedDocument | None
    failure: Failure | None = None


def inspect(source: Source, found: Survey, *, extract: Extract, xml: Mapping[str, str] | None, now: datetime) -> Iterator[Inspected]:
    """Read and extract what the survey could not judge by signature, one at a time; `xml` as the source declares it."""
    todo: list[tuple[Listed, Known | None]] = [*found.suspects, *((listed, None) for listed in found.added)]
    reader = reader_fingerprint(xml)
    for listed, known in todo:
        digest = None
        try:
            data = source.read(listed.path, listed=listed.signature)
            digest = raw_hash(data)
            stands = quarantine.standing(known, raw_hash=digest, extractor=reader, now=now) if known is not None else None
            same = known is not None and known.raw_hash == digest
            yield Inspected(listed, known, digest, None if same or stands else extract(data, path=listed.path, xml=xml), stands)
        except DocumentError as error:
            failure = quarantine.failure_of(error, known=known, raw_hash=digest, extractor=reader, now=now)
            yield Inspected(listed, known, digest, None, failure)
