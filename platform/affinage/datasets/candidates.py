"""A row that may enter a snapshot, before filters and split. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from affinage.datasets.rows import Kind


@dataclass(frozen=True)
class Candidate:
    """One example with all that filters look at.

    `own_text` is what the user wrote (personal data is looked for there), `passages` the texts that quotes must stand
    in, `generated_by` the engine whose output is learnt (None: a person wrote it). `topic` and `verdict` tell when two
    people say opposite things of the same; `failed` is a reason found while the row was made.
    """

    kind: Kind
    payload: Mapping[str, Any]
    question: str
    target: str
    user: str | None = None
    unit: str = ""
    said_at: datetime | None = None
    language: str = ""
    origin: str = ""
    weight: float = 1.0
    own_text: str = ""
    passages: tuple[str, ...] = ()
    answer_id: str | None = None
    feedback_ids: tuple[str, ...] = ()
    doc_keys: tuple[str, ...] = ()
    chunk_ids: tuple[str, ...] = ()
    chunk_digests: tuple[str, ...] = ()
    allow: frozenset[str] = frozenset()
    generated_by: str | None = None
    topic: str = ""
    verdict: str = ""
    failed: str | None = None
    example_id: str = field(default="")

    def __post_init__(self) -> None:
        if not self.example_id:
            object.__setattr__(self, "example_id", example_id_of(self.kind, self.payload))

    @property
    def order(self) -> tuple[str, str]:
        """Earliest first, then by content: what decides between equals, whatever the order of rows."""
        return (self.said_at.isoformat() if self.said_at else "", self.example_id)


@dataclass(frozen=True)
class Rejected:
    """A candidate that was left out, and why."""

    candidate: Candidate
    reason: str


def example_id_of(kind: str, payload: Mapping[str, Any]) -> str:
    """First 20 hexadecimal digits of SHA-256 over kind and payload."""
    canonical = json.dumps([kind, payload], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]
