"""Paired difference of two systems on the same items, with an interval that respects clusters.

Items that share a document or a user are not independent: whole clusters are drawn again, never single items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affinage.scoring.student import t_quantile

DRAWS = 10_000
CONFIDENCE = 0.95
_BATCH = 2_000  # draws held at once: 2,000 x 1,000 clusters of 8 bytes are 16 MB


@dataclass(frozen=True)
class PairedDifference:
    """Means of both systems, their difference (candidate minus control) and its interval."""

    control: float
    candidate: float
    difference: float
    lower: float
    upper: float
    items: int
    clusters: int


def paired_cluster_bootstrap(
    control: Sequence[float],
    candidate: Sequence[float],
    clusters: Sequence[str],
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
) -> PairedDifference:
    """Mean difference over items and its two-sided interval.

    The interval is the wider of two, on each side: the percentiles of `draws` samples of whole clusters, and Student's t
    with the cluster-robust standard error. With many clusters they agree. With few, the percentiles alone promise too
    much: if nothing changed, all n clusters improve by chance with probability 2^-n, and then no percentile is below zero.

    Parameters
    ----------
    control, candidate
        Scores of the same items, shape (n_items,). An item that is NaN on either side cannot be scored and is left out.
    clusters
        The cluster of each item.

    Returns
    -------
    PairedDifference
        Without items: NaN means and an infinite interval. With one cluster: an infinite interval, since nothing tells
        how clusters vary.

    Raises
    ------
    ValueError
        If the lengths differ or `confidence` is not inside (0, 1).
    """
    if not len(control) == len(candidate) == len(clusters):
        raise ValueError(f"lengths differ: {len(control)} control, {len(candidate)} candidate, {len(clusters)} clusters")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be inside (0, 1), not {confidence}")
    before, after = np.asarray(control, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    scored = ~(np.isnan(before) | np.isnan(after))
    before, after = before[scored], after[scored]
    names = [name for name, kept in zip(clusters, scored, strict=True) if kept]
    if not names:
        return PairedDifference(math.nan, math.nan, math.nan, -math.inf, math.inf, 0, 0)
    sums, counts = _by_cluster(after - before, names)
    difference = float(sums.sum() / counts.sum())
    lower, upper = _interval(sums, counts, difference, rng=rng, draws=draws, confidence=confidence)
    return PairedDifference(float(before.mean()), float(after.mean()), difference, lower, upper, len(names), len(sums))


def _by_cluster(differences: NDArray[np.float64], names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of differences and number of items of each cluster, both of shape (n_clusters,)."""
    _, index = np.unique(np.asarray(names), return_inverse=True)
    return np.bincount(index, weights=differences).astype(np.float64), np.bincount(index).astype(np.float64)


def _interval(
    sums: NDArray[np.float64], counts: NDArray[np.float64], difference: float, *, rng: np.random.Generator, draws: int, confidence: float
) -> tuple[float, float]:
    n = len(sums)
    if n == 1:
        return -math.inf, math.inf
    means = []
    for done in range(0, draws, _BATCH):
        # How often each cluster is drawn, shape (batch, n_clusters).
        weights = rng.multinomial(n, np.full(n, 1 / n), size=min(_BATCH, draws - done))
        means.append((weights @ sums) / (weights @ counts))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    error = math.sqrt(n / (n - 1) * float(np.square(sums - difference * counts).sum())) / float(counts.sum())
    reach = t_quantile(1 - tail, freedom=n - 1) * error
    return min(float(low), difference - reach), max(float(high), difference + reach)
