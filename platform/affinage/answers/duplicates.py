"""Passages that say the same thing count once. Pure.

Ten copies of one page must not push every other source out of an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from affinage.index.passages import Passage

SAME_ABOVE = 0.9
# Jaccard similarity of word triples: a changed date or name in a paragraph of 60 words stays a passage of its own.
_WORDS = re.compile(r"\w+")


def collapse(passages: Sequence[Passage]) -> list[Passage]:
    """`passages` in order, without those that repeat an earlier one."""
    kept: list[tuple[frozenset[tuple[str, ...]], Passage]] = []
    for passage in passages:
        triples = _triples(passage.text)
        if not any(_similarity(triples, other) >= SAME_ABOVE for other, _ in kept):
            kept.append((triples, passage))
    return [passage for _, passage in kept]


def _triples(text: str) -> frozenset[tuple[str, ...]]:
    words = _WORDS.findall(text.lower())
    if len(words) < 3:
        return frozenset({tuple(words)})
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def _similarity(left: frozenset[tuple[str, ...]], right: frozenset[tuple[str, ...]]) -> float:
    return len(left & right) / len(left | right)
