"""An embedder that needs no weights: the same text gives the same vector, and shared words bring vectors together."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"\w+")


class HashEmbedder:
    """Words hashed into a vector of signs; counts what it embeds."""

    def __init__(self, *, dimensions: int = 64, version: str = "1", max_tokens: int = 256) -> None:
        self.dimensions = dimensions
        self.max_tokens = max_tokens
        self.fingerprint = f"hash-{version}-{dimensions}"
        self.weights_in_fingerprint = True  # it has none; False: as if it were an endpoint
        self.embedded: list[str] = []
        self._seed = version

    def swap(self, version: str) -> None:
        """Other weights under the same fingerprint."""
        self._seed = version

    def count_tokens(self, text: str) -> int:
        return len(WORD.findall(text)) + 2

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded.extend(texts)
        return np.stack([self._vector(text) for text in texts]).astype(np.float32)

    def _vector(self, text: str) -> NDArray[np.float64]:
        # The whole text counts a little, so that no two texts have equal vectors.
        vector = 0.01 * self._signs(text)
        for word in WORD.findall(text.lower()):
            vector = vector + self._signs(word)
        return vector / np.linalg.norm(vector)

    def _signs(self, word: str) -> NDArray[np.float64]:
        digest = hashlib.blake2b(word.encode(), key=self._seed.encode(), digest_size=self.dimensions // 8).digest()
        return np.unpackbits(np.frombuffer(digest, dtype=np.uint8)).astype(np.float64) * 2 - 1
