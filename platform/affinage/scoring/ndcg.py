"""Normalised discounted cumulative gain: how near the top the relevant passages are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet


def ndcg_at_k(relevant: AbstractSet[str], ranked: Sequence[str], *, k: int) -> float:
    """Gain of the first `k` results, discounted by rank, as a share of the best possible gain; relevance is 0 or 1.

    Parameters
    ----------
    relevant
        Ids that answer the query.
    ranked
        Ids, best first, no duplicates; there may be fewer than `k`.

    Returns
    -------
    float
        In [0, 1]. NaN when `relevant` is empty: the query cannot be scored, and 0 would lower the mean.

    Raises
    ------
    ValueError
        If `k` is below 1.

    References
    ----------
    Järvelin, Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if not relevant:
        return math.nan
    gain = sum(1 / math.log2(rank + 2) for rank, found in enumerate(ranked[:k]) if found in relevant)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(relevant))))
    return gain / ideal
