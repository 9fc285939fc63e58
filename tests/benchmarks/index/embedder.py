"""An embedder that costs what it is told to: 256 dimensions from a hash of the text, the same in every process.

numpy and the standard library only: the peers' environments hold nothing of ours.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

DIMENSIONS = 256


class MeteredEmbedder:
    """Counts what it embeds. `cost_seconds` of each text are slept: a server's time, not this processor's."""

    def __init__(self, cost_seconds: float = 0.0) -> None:
        self.cost_seconds = cost_seconds
        self.texts = 0
        self.calls = 0
        self.seconds = 0.0

    def embed(self, texts: Sequence[str]) -> Any:
        """Vectors of length 1, (n, 256) float32; a text's vector does not depend on the others."""
        began = time.perf_counter()
        self.texts += len(texts)
        self.calls += 1
        raw = b"".join(hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(DIMENSIONS) for text in texts)
        vectors = np.frombuffer(raw, dtype=np.uint8).reshape(len(texts), DIMENSIONS).astype(np.float32) - 127.5
        vectors /= np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
        if self.cost_seconds:
            time.sleep(self.cost_seconds * len(texts))
        self.seconds += time.perf_counter() - began
        return vectors
