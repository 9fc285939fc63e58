"""Golden log-probabilities: what an engine must show before an adapter on it counts as live.

Measured when the candidate was evaluated, on the engine's own base, with and without the adapter. A missing adapter, a
wrong one or another prompt template moves the mean by more than 1; honest serving in bf16 by some 0.02. A base that was
altered a little cannot be seen this way: its digest is checked for that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from affinage.blobs import BlobStore
from affinage.datasets.rows import SftRow
from affinage.engines.protocols import Message

GOLDEN_ROWS = 8


@runtime_checkable
class HasLogProbabilities(Protocol):
    """A generator that can say how likely a given answer was to it."""

    def log_probabilities(self, messages: Sequence[Message], target: str, *, adapter: str | None = None) -> list[float]:
        """Log-probability of each token of `target` given `messages`."""


@dataclass(frozen=True)
class GoldenRow:
    """One prompt with its answer, and the mean log-probability of the answer with and without the adapter."""

    messages: tuple[Message, ...]
    target: str
    adapter: float
    base: float


def measure(generator: HasLogProbabilities, rows: Sequence[SftRow], *, adapter: str) -> list[GoldenRow]:
    """Golden rows from the first training rows: the held-out ones stay unseen."""
    return [
        GoldenRow(
            messages=row.messages,
            target=row.target,
            adapter=float(np.mean(generator.log_probabilities(row.messages, row.target, adapter=adapter))),
            base=float(np.mean(generator.log_probabilities(row.messages, row.target, adapter=None))),
        )
        for row in rows[:GOLDEN_ROWS]
    ]


def blob_name(adapter_digest: str) -> str:
    """Name of the golden rows of an adapter."""
    return f"golden/{adapter_digest}.json"


def save(blobs: BlobStore, adapter_digest: str, golden: Sequence[GoldenRow]) -> None:
    """Keep golden rows; the first measurement counts."""
    blobs.put(blob_name(adapter_digest), json.dumps([asdict(row) for row in golden], ensure_ascii=False).encode())


def load(blobs: BlobStore, adapter_digest: str) -> list[GoldenRow]:
    """Golden rows of an adapter; empty when none were measured."""
    if not blobs.exists(blob_name(adapter_digest)):
        return []
    rows = json.loads(blobs.get(blob_name(adapter_digest)))
    return [GoldenRow(tuple(Message(**m) for m in row["messages"]), row["target"], row["adapter"], row["base"]) for row in rows]
