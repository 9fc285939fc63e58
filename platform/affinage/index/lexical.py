"""Words of texts, and how well a text matches the words of a query. Pure.

The statistics behind the scores are fixed: two shipped word lists and the length of the word. They never depend on the
corpus, because then a ranking would tell of documents that the reader may not see.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from importlib import resources

WORD = re.compile(r"[^\W_]+")
SATURATION = 1.2
# BM25's k1. There is no length term: chunks are packed to similar lengths, and an average would depend on the corpus.
COMMON_WEIGHT = 2.0
NUMBER_WEIGHT = 5.0
RARE_BASE, RARE_PER_LETTER, RARE_LETTERS = 3.0, 0.25, 14
# Natural-log scale of BM25's idf: 2 is a word in one text of seven, 6 one in four hundred. Longer words are rarer.
PLURAL_LENGTH = 4
# Shorter words that end in s or x are mostly not plurals ("bus", "prix" lose nothing of weight by staying whole).


def tokens(text: str) -> tuple[str, ...]:
    """Words of `text` in order: without accents, case, plural endings and words that say nothing."""
    return tuple(filter(None, map(_token, WORD.findall(_folded(text)))))


def query_tokens(query: str) -> list[str]:
    """Distinct words of `query`, the most telling first."""
    return sorted(set(tokens(query)), key=lambda token: (-weight(token), token))


@lru_cache(maxsize=65_536)
def weight(token: str) -> float:
    """How much it tells that a text holds `token`."""
    if token in _words("common.txt"):
        return COMMON_WEIGHT
    if token.isdigit():
        return NUMBER_WEIGHT
    return RARE_BASE + RARE_PER_LETTER * min(len(token), RARE_LETTERS)


def score(query: Iterable[str], text: Sequence[str]) -> float:
    """BM25 with fixed weights and constant length; 0 when no word is shared."""
    counts = Counter(text)
    return sum(weight(t) * counts[t] * (SATURATION + 1) / (counts[t] + SATURATION) for t in query if counts[t])


def _folded(text: str) -> str:
    folded = text.casefold()
    if folded.isascii():
        return folded
    folded = unicodedata.normalize("NFKD", folded)
    # A text has few different marks, and many letters.
    for mark in filter(unicodedata.combining, set(folded)):
        folded = folded.replace(mark, "")
    return folded


@lru_cache(maxsize=65_536)
def _token(word: str) -> str:
    """The form of a folded `word` that is compared; empty for one that says nothing."""
    return "" if word in _words("stop.txt") else _stem(word)


def _stem(word: str) -> str:
    return word[:-1] if len(word) > PLURAL_LENGTH and word[-1] in "sx" and word[-2] != "s" else word


@cache
def _words(name: str) -> frozenset[str]:
    text = resources.files("affinage.index").joinpath("background", name).read_text(encoding="utf-8")
    words = {word for line in text.splitlines() if not line.startswith("#") for word in line.split()}
    return frozenset(words if name == "stop.txt" else map(_stem, words))
