"""Recall: how many of the relevant passages are among the first results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet


def recall_at_k(relevant: AbstractSet[str], ranked: Sequence[str], *, k: int) -> float:
    """Share of the relevant passages found among the first `k` results.

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
    Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, section 8.4.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if not relevant:
        return math.nan
    return len(relevant & set(ranked[:k])) / len(relevant)
