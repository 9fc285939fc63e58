"""Plain text: paragraphs between empty lines, hard-wrapped lines joined."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from affinage.documents.blocks import Block
from affinage.documents.extraction.decoding import clean, decode
from affinage.documents.extraction.dispatch import Extraction

WRAP_WIDTH = 50
# Characters; a shorter line was ended by its writer, not by an editor's margin.

_BULLET = re.compile(r"(?:[-*+•–—◦▪‣]|\(?\d{1,3}[.)]|[a-z]\))[ \t]+(?=\S)")
_SENTENCE_END = (".", "!", "?", ":", ";", "…")
_SPACES = re.compile(r"[ \t\xa0\u202f]{2,}|\t")


def read(data: bytes, *, path: str) -> Extraction:
    """Blocks of a plain text."""
    return Extraction(tuple(paragraphs(clean(decode(data, path=path)))))


def paragraphs(text: str) -> Iterator[Block]:
    """Paragraphs and list items of clean plain text."""
    pending: list[str] = []
    for raw in text.split("\n"):
        line = _SPACES.sub(" ", raw).strip()
        if not line:
            yield from _block(pending)
            pending = []
        elif _BULLET.match(line):
            yield from _block(pending)
            pending = [line]
        else:
            pending.append(line)
    yield from _block(pending)


def _block(lines: list[str]) -> Iterator[Block]:
    if not lines:
        return
    bullet = _BULLET.match(lines[0])
    joined = [lines[0][bullet.end() :] if bullet else lines[0]]
    for before, line in pairwise(lines):
        wrapped = len(before) >= WRAP_WIDTH and not before.endswith(_SENTENCE_END)
        joined.append((" " if wrapped or line[0].islower() else "\n") + line)
    yield Block("list_item" if bullet else "paragraph", "".join(joined))
