"""Passages for tests, made from plain text: blocks are separated by an empty line, as in extracted documents."""

from __future__ import annotations

from affinage.index.passages import Passage


def passage(
    text: str,
    *,
    chunk_id: str = "c1",
    document: str = "handbook/permits.md",
    title: str = "Permits",
    start: int = 0,
    page: int | None = None,
    allow: tuple[str, ...] = ("everyone",),
) -> Passage:
    spans, position = [], start
    for block in text.split("\n\n"):
        spans.append((position, position + len(block)))
        position += len(block) + 2
    return Passage(
        chunk_id=chunk_id,
        doc_key=f"key-{document}",
        document=document,
        title=title,
        language="en",
        page=page,
        heading="",
        text=text,
        start=start,
        end=start + len(text),
        spans=tuple(spans),
        allow=allow,
        score=1.0,
    )
