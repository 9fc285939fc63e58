"""Vectors for texts: from the cache, else from the embedder, and then into the cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from affinage.engines.protocols import Embedder, RefusedTextsError
from affinage.errors import DependencyError
from affinage.index.cache import Vector, VectorCache

BATCH = 64
# Texts of one call, and how often progress is shown.
COMMIT_SECONDS = 0.5
# Of embedding between two commits of the cache: what a crash embeds again, beside the call in progress.
UNIT_TOLERANCE = 1e-3


def vectors_for(
    texts: Mapping[str, str],
    *,
    embedder: Embedder,
    cache: VectorCache,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
    refused: set[str] | None = None,
) -> tuple[dict[str, Vector], int]:
    """Vectors of `texts` (digest to text), and how many texts were embedded.

    Each distinct text is embedded at most once, and committed to the cache before anything refers to it.

    Parameters
    ----------
    refused
        Gets the digests of texts that the embedder will not take, which then have no vector. None: they are an error.

    Raises
    ------
    RefusedTextsError
        If a text was refused, and `refused` is None; the others are in the cache.
    """
    found = cache.get(embedder.fingerprint, texts)
    # Texts of like length together: a batch is padded to its longest.
    missing = sorted((digest for digest in texts if digest not in found), key=lambda digest: (len(texts[digest]), digest))
    made: dict[str, Vector] = {}
    committed_at = time.monotonic()
    for start in range(0, len(missing), BATCH):
        batch = missing[start : start + BATCH]
        try:
            made.update(zip(batch, _embed(embedder, [texts[digest] for digest in batch]), strict=True))
        except RefusedTextsError as error:
            lost = {batch[position] for position in error.positions}
            made.update({digest: vector for digest, vector in zip(batch, error.vectors, strict=True) if digest not in lost})
            if refused is None:
                cache.put(embedder.fingerprint, made)
                raise
            refused |= lost
        if start + BATCH >= len(missing) or time.monotonic() - committed_at >= COMMIT_SECONDS:
            cache.put(embedder.fingerprint, made)
            found.update(made)
            made, committed_at = {}, time.monotonic()
        progress(start + len(batch), len(missing))
    return found, sum(digest in found for digest in missing)


def _embed(embedder: Embedder, texts: Sequence[str]) -> list[Vector]:
    vectors = np.asarray(embedder.embed(texts), dtype=np.float32)
    if vectors.shape != (len(texts), embedder.dimensions):
        expected = (len(texts), embedder.dimensions)
        raise DependencyError("engine", f"The embedder gave an array of shape {vectors.shape}, expected {expected}.", retryable=False)
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.all(np.isfinite(lengths)) or np.any(np.abs(lengths - 1.0) > UNIT_TOLERANCE):
        raise DependencyError("engine", "The embedder gave vectors that are not of length 1.", hint="Check its weights.", retryable=False)
    return list(vectors)
