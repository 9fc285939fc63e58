"""How much a run embedded and how long that took; the next dry run's estimate comes from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from affinage.engines.protocols import Embedder
from affinage.index.reports import Embedded


class MeteredEmbedder:
    """An embedder that notes in `work` what goes through it."""

    def __init__(self, embedder: Embedder, work: Embedded, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._embedder = embedder
        self._work = work
        self._timer = timer

    @property
    def fingerprint(self) -> str:
        """As the embedder's."""
        return self._embedder.fingerprint

    @property
    def weights_in_fingerprint(self) -> bool:
        """As the embedder's."""
        return self._embedder.weights_in_fingerprint

    @property
    def dimensions(self) -> int:
        """As the embedder's."""
        return self._embedder.dimensions

    @property
    def max_tokens(self) -> int:
        """As the embedder's."""
        return self._embedder.max_tokens

    def count_tokens(self, text: str) -> int:
        """As the embedder's."""
        return self._embedder.count_tokens(text)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As the embedder's; what fails is not counted."""
        started = self._timer()
        vectors = self._embedder.embed(texts)
        seconds = self._timer() - started
        self._work.add(Embedded(self.fingerprint, len(texts), sum(map(len, texts)), seconds))
        return vectors
