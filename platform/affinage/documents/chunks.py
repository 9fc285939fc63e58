"""A chunk: what is embedded, found and quoted from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chunk:
    """A run of blocks (or of sentences of one block) of a document.

    `text` equals the document's text between `start` and `end`. `spans` are the block pieces inside it, as offsets in
    the document's text: a quote lies within one of them. `embed_text` is the exact string that is embedded (heading
    path, then text); neither file name nor position is part of it.
    """

    text: str
    embed_text: str
    start: int
    end: int
    page: int | None
    heading: str
    spans: tuple[tuple[int, int], ...]
