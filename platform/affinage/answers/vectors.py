"""Sentence vectors, remembered: the sentences of a corpus come back with every other question."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affinage.engines.protocols import Embedder

REMEMBERED = 20_000
# 384 floats each: some 30 MB, and a corpus of about 500 pages.


class RememberingEmbedder:
    """An embedder that keeps the vectors of its latest texts; otherwise the one it wraps."""

    def __init__(self, embedder: Embedder, *, size: int = REMEMBERED) -> None:
        self._embedder = embedder
        self._size = size
        self._lock = threading.Lock()
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    @property
    def fingerprint(self) -> str:
        """The wrapped embedder's."""
        return self._embedder.fingerprint

    @property
    def weights_in_fingerprint(self) -> bool:
        """The wrapped embedder's."""
        return self._embedder.weights_in_fingerprint

    @property
    def dimensions(self) -> int:
        """The wrapped embedder's."""
        return self._embedder.dimensions

    @property
    def max_tokens(self) -> int:
        """The wrapped embedder's."""
        return self._embedder.max_tokens

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`."""
        return self._embedder.count_tokens(text)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of `texts`, shape (n_texts, dimensions); only texts that are not remembered are computed."""
        with self._lock:
            found = {text: self._vectors[text] for text in texts if text in self._vectors}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            found |= zip(missing, self._embedder.embed(missing), strict=True)
        with self._lock:
            for text in texts:
                self._vectors[text] = found[text]
                self._vectors.move_to_end(text)
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)
        return np.stack([found[text] for text in texts]) if texts else np.zeros((0, self.dimensions), dtype=np.float32)
