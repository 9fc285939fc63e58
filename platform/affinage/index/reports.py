"""What a sync reports, for one source or several. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from affinage.index.revisions import ChunkCounts

COMPLETE, PARTIAL, HELD, FAILED = "complete", "partial", "held", "failed"
_GRAVITY = (COMPLETE, PARTIAL, HELD)
# The status of several sources is the gravest of theirs.
LISTED = (COMPLETE, PARTIAL)
"""Runs that listed the whole source and did all that follows from it; one that is held waits for a person."""


@dataclass
class DocumentCounts:
    """Documents by what became of them.

    `seen` counts everything listed. `unsupported` are files whose format nobody reads: they are no documents. `held` are
    documents that are missing and wait for confirmation.
    """

    seen: int = 0
    added: int = 0
    changed: int = 0
    moved: int = 0
    unchanged: int = 0
    deleted: int = 0
    held: int = 0
    failed: int = 0
    unsupported: int = 0


@dataclass
class Embedded:
    """What went through the embedder, and how long it took: the next dry run estimates with it.

    Characters, since counting the tokens of what is embedded anyway would cost a sync time. `embedder` is its fingerprint; None
    when nothing was embedded, or by several.
    """

    embedder: str | None = None
    texts: int = 0
    characters: int = 0
    seconds: float = 0.0

    def add(self, other: Embedded) -> None:
        """Sum up."""
        if other.texts:
            self.embedder = other.embedder if self.embedder == other.embedder or not self.texts else None
        self.texts += other.texts
        self.characters += other.characters
        self.seconds = round(self.seconds + other.seconds, 3)


@dataclass
class SyncReport:
    """The outcome of a sync.

    `bytes_not_read` are of documents whose signature told that they did not change, where a signature tells the size. `tokens`,
    `estimated_seconds` and `cost` are of a dry run.
    """

    run_id: str
    status: str = COMPLETE
    documents: DocumentCounts = field(default_factory=DocumentCounts)
    chunks: ChunkCounts = field(default_factory=ChunkCounts)
    seconds: float = 0.0
    bytes_not_read: int = 0
    embedding: Embedded = field(default_factory=Embedded)
    tokens: int | None = None
    estimated_seconds: float | None = None
    cost: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The keys of `affinage index sync --json`."""
        fields = asdict(self)
        if self.tokens is None:
            del fields["tokens"], fields["estimated_seconds"], fields["cost"]
        return fields

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> SyncReport:
        """What `as_dict` gave, also before there were all of its keys."""
        documents, chunks = DocumentCounts(**stored["documents"]), ChunkCounts(**stored["chunks"])
        return cls(**{**stored, "documents": documents, "chunks": chunks, "embedding": Embedded(**stored.get("embedding", {}))})

    @classmethod
    def total(cls, reports: Sequence[SyncReport], *, run_id: str) -> SyncReport:
        """The sum of the reports; of one, that one."""
        if len(reports) == 1:
            return reports[0]
        result = cls(run_id)
        for report in reports:
            for name, value in vars(report.documents).items():
                setattr(result.documents, name, getattr(result.documents, name) + value)
            result.chunks.add(report.chunks)
            result.status = max(result.status, report.status, key=_GRAVITY.index)
            result.seconds = round(result.seconds + report.seconds, 3)
            result.bytes_not_read += report.bytes_not_read
            result.embedding.add(report.embedding)
            if report.tokens is not None:
                result.tokens = (result.tokens or 0) + report.tokens
                result.estimated_seconds = round((result.estimated_seconds or 0.0) + (report.estimated_seconds or 0.0), 1)
        return result
