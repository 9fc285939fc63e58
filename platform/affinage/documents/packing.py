"""Where a section is cut: at the places its content chooses. Pure.

Every sentence, table row and line of code is an atom with a rank, a hash of its text. An atom whose rank is the lowest
within `ANCHOR_DISTANCE` on both sides is an anchor: a chunk begins there, whatever stands further away. So what is
inserted somewhere can move the anchors beside it and no others. What lies between two anchors is seldom too long for a
chunk; if it is, it is cut before an atom of low rank near its middle, which changes nothing outside it.

(Filling chunks up from the start moves every later cut. Cutting wherever a hash matches a mask has to cut by length
where none matches, and then those cuts move too. Measured on 1,500 insertions of one or two sentences into prose
of the demonstration, with the packaged embedder's tokens: 99.6 % changed at most three chunks, the others four.)
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from hashlib import blake2b
from itertools import pairwise
from zlib import crc32

import numpy as np

from affinage.documents.sentences import sentence_spans

LONG_SENTENCE = 400
# Characters; a longer one may also be cut between its words.
LONG_WORD = 80
# Characters; a longer one (a text without spaces, or encoded data) may also be cut inside, every 32 characters or so.
ANCHOR_DISTANCE = 250
# Characters between anchors at least; their mean distance is about twice that.

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

    def runs(self) -> list[tuple[int, int]]:
        """Half-open ranges of atoms between anchors, in order; no anchor is near the ends of the section."""
        if not len(self):
            return []
        anchors = [i for i in self._anchors() if self._is_inside(i)]
        return list(pairwise([0, *anchors, len(self)]))

    def _is_inside(self, atom: int) -> bool:
        return self.starts[atom] - self.starts[0] >= ANCHOR_DISTANCE and self.ends[-1] - self.starts[atom] >= ANCHOR_DISTANCE

    def _anchors(self) -> Iterator[int]:
        """Atoms with no key as low as theirs within the distance, in order: one pass with a stack of rising keys."""
        starts, keys = self.starts, self._keys
        is_low = bytearray(len(keys))
        stack: list[int] = []
        for i, key in enumerate(keys):
            before = -1
            while stack and keys[stack[-1]] >= key:
                before = stack.pop()
                if starts[i] - starts[before] <= ANCHOR_DISTANCE:
                    is_low[before] = 0
            # The nearest key to the left that is as low: an equal one was just taken off the stack, last.
            nearest = before if before >= 0 and keys[before] == key else stack[-1] if stack else -1
            is_low[i] = nearest < 0 or starts[i] - starts[nearest] > ANCHOR_DISTANCE
            stack.append(i)
        return (i for i, low in enumerate(is_low) if low)

    def cut(self, first: int, last: int, *, shortest: int, longest: int) -> int:
        """The atom before which the run of atoms `first` to `last` (excluded, at least two) is cut.

        The lowest rank among the places that leave no part below `shortest`, and none above `longest` where two parts
        of that length are enough; the place nearest to the middle when there is none.
        """
        if self._index is None:
            self._index = _LowestKey(self._keys)
        start, end = self.starts[first], self.ends[last - 1]
        low, high = start + shortest, end - shortest
        if end - start <= 2 * longest:
            low, high = max(low, end - longest), min(high, start + longest)
        best = self._lowest_between(first, last, low, high)
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
