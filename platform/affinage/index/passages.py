"""A passage: a chunk as a reader finds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Passage:
    """A visible chunk. `document` is `<source>/<path>`; offsets count in the document's extracted text.

    `allow` is the document's access label at the time of reading. `score` orders passages inside one query and is never
    shown: it would tell of hidden documents.
    """

    chunk_id: str
    doc_key: str
    document: str
    title: str
    language: str
    page: int | None
    heading: str
    text: str
    start: int
    end: int
    spans: tuple[tuple[int, int], ...]
    allow: tuple[str, ...]
    score: float
