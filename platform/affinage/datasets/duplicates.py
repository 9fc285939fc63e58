"""Near-duplicate texts: exact Jaccard similarity of word shingles. Pure.

Pairs are found by prefix filtering: two sets whose similarity reaches the threshold share one of their rarest shingles,
so only those are indexed. The result is exact; the cost stays near linear unless most texts are alike.

References
----------
Chaudhuri, Ganti, Kaushik, "A primitive operator for similarity joins in data cleaning", ICDE 2006.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

SHINGLE_WORDS = 5
_WORD = re.compile(r"\w+")


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """Sets of five following words, lower case; a shorter text is one shingle."""
    words = _WORD.findall(text.lower())
    if len(words) <= SHINGLE_WORDS:
        return frozenset({tuple(words)})
    return frozenset(tuple(words[i : i + SHINGLE_WORDS]) for i in range(len(words) - SHINGLE_WORDS + 1))


def similarity(a: str, b: str) -> float:
    """Jaccard similarity of the shingles of two texts, in [0, 1]."""
    first, second = shingles(a), shingles(b)
    return len(first & second) / len(first | second)


def similar_pairs(texts: Sequence[str], *, threshold: float) -> list[tuple[int, int]]:
    """Index pairs (i < j) of texts whose shingles have a Jaccard similarity of at least `threshold`, sorted."""
    sets = [shingles(text) for text in texts]
    counts = Counter(shingle for own in sets for shingle in own)
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    pairs = []
    for j, own in enumerate(sets):
        rarest = sorted(own, key=lambda shingle: (counts[shingle], shingle))
        prefix = rarest[: len(own) - math.ceil(threshold * len(own)) + 1]
        for i in sorted({i for shingle in prefix for i in index[shingle]}):
            common = len(own & sets[i])
            if common >= threshold * (len(own) + len(sets[i]) - common):
                pairs.append((i, j))
        for shingle in prefix:
            index[shingle].append(j)
    return sorted(pairs)
