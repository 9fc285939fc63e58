"""Where a section is cut: at the places its content chooses. Pure.

Every sentence, table row and line of code is an atom with a rank, a hash of its text. A run of atoms that is too long
is cut before the atom of the lowest rank that is not too near the ends, and so are its two parts. Which atom that is
depends on the atoms around it and not on how much text stands before it: what is inserted somewhere changes the run
that it falls into, and leaves all other cuts where they were. (Filling runs up from the start moves every later cut.
Cutting wherever a hash matches a mask has to cut by length where none matches, and those cuts move too.)
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from hashlib import blake2b
from zlib import crc32

import numpy as np

from affinage.documents.sentences import sentence_spans

LONG_SENTENCE = 400
# Characters; a longer one may also be cut between its words.
LONG_WORD = 80
# Characters; a longer one (a text without spaces, or encoded data) may also be cut inside, every 32 characters or so.
MIN_PART = 100
# Characters; a sentence may end this near to the end of a run when the other choice is to cut between words.

_BLOCK = 256
_WINDOW = 32
# Characters that rank a cut between words: words repeat, a stretch of text seldom does.
_WORDS = re.compile(r"\S+")
_LINES = re.compile(r"\S[^\n]*(?<=\S)|\S")
_BLOCK_START_BITS = 2
# By how many bits the rank of a block's first atom is lower than another's.
_BETWEEN_WORDS, _INSIDE_WORD = 1 << 56, 2 << 56
# Added to the 56 bits of a hash, so that such a place is only chosen where no sentence begins.


class Atoms:
    """Pieces of a section, in order; `starts` and `ends` are their offsets in `text`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts, self.ends = array("q"), array("q")
        self._keys = array("Q")
        self._index: _LowestKey | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, start: int, end: int, *, by_line: bool) -> None:
        """Add the sentences, or the lines, of the block between `start` and `end`."""
        self._index = None
        block = self.text[start:end]
        spans = [match.span() for match in _LINES.finditer(block)] if by_line else sentence_spans(block)
        for number, (first, last) in enumerate(spans):
            # Where a block begins is the better place to cut.
            shift = 0 if number else _BLOCK_START_BITS
            if last - first <= LONG_SENTENCE:
                self._put(start + first, start + last, _rank(block[first:last]) >> shift)
            else:
                self._put_words(start + first, start + last, shift)

    def cut(self, first: int, last: int, *, margin: int) -> int:
        """The atom before which the run of atoms `first` to `last` (excluded, at least two) is cut.

        It is at least `margin` characters from both ends where one is; otherwise the nearest to the middle.
        """
        if self._index is None:
            self._index = _LowestKey(self._keys)
        start, end = self.starts[first], self.ends[last - 1]
        best = self._lowest_between(first, last, start + margin, end - margin)
        if best is None or self._keys[best] >= _BETWEEN_WORDS:
            sentence = self._lowest_between(first, last, start + MIN_PART, end - MIN_PART)
            if sentence is not None and self._keys[sentence] < _BETWEEN_WORDS:
                return sentence
        return best if best is not None else self._middle(first, last, (start + end) // 2)

    def _lowest_between(self, first: int, last: int, low: int, high: int) -> int | None:
        """The atom of the lowest key that starts between two offsets, inside the run and not at its start."""
        assert self._index is not None
        left = bisect_left(self.starts, low, first + 1, last)
        right = bisect_left(self.starts, high + 1, first + 1, last)
        return self._index.between(left, right) if left < right else None

    def _middle(self, first: int, last: int, offset: int) -> int:
        after = bisect_left(self.starts, offset, first + 1, last)
        return min((i for i in (after - 1, after) if first < i < last), key=lambda i: (abs(self.starts[i] - offset), i))

    def _put(self, start: int, end: int, key: int) -> None:
        self.starts.append(start)
        self.ends.append(end)
        self._keys.append(key)

    def _put_words(self, start: int, end: int, shift: int) -> None:
        kind = 0
        for match in _WORDS.finditer(self.text, start, end):
            first, last = match.span()
            for place in self._places_inside(first, last) if last - first > LONG_WORD else ():
                self._put(first, place, kind + (_rank(self.text[first : first + _WINDOW]) >> shift))
                first, kind, shift = place, _INSIDE_WORD, 0
            self._put(first, last, kind + (_rank(self.text[first : first + _WINDOW]) >> shift))
            kind, shift = _BETWEEN_WORDS, 0

    def _places_inside(self, first: int, last: int) -> list[int]:
        """Places in a word without spaces where a hash of the next characters says so: never where a count does."""
        word = self.text[first : last + 8].encode("utf-32-le")
        return [first + i for i in range(1, last - first) if crc32(word[4 * i : 4 * i + 24]) % 32 == 0]


class _LowestKey:
    """Finds the lowest key of a range without looking at every key of it."""

    def __init__(self, keys: array[int]) -> None:
        self._keys = np.frombuffer(keys, dtype=np.uint64)
        whole = len(keys) // _BLOCK
        self._lowest = self._keys[: whole * _BLOCK].reshape(whole, _BLOCK).min(axis=1)

    def between(self, first: int, last: int) -> int:
        """Index of the lowest key in `first` to `last` (excluded, not empty); the first of equal ones."""
        whole_first, whole_last = -(-first // _BLOCK), last // _BLOCK
        if whole_last <= whole_first:
            return first + int(self._keys[first:last].argmin())
        block = whole_first + int(self._lowest[whole_first:whole_last].argmin())
        ranges = [(first, whole_first * _BLOCK), (block * _BLOCK, (block + 1) * _BLOCK), (whole_last * _BLOCK, last)]
        found = [start + int(self._keys[start:end].argmin()) for start, end in ranges if start < end]
        return min(found, key=lambda i: (int(self._keys[i]), i))


def _rank(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest(), "big")
