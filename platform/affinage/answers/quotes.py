"""Whether a quote is in a text, to the character. Pure.

A near match is no match: a fuzzy comparison accepts a quote with one altered word, and that word may be "not". No
normalisation is made either: a homoglyph, another space or another accent encoding is another text.
"""

from __future__ import annotations

from collections.abc import Iterator

from affinage.answers.citations import Citation
from affinage.index.passages import Passage


def block_pieces(passage: Passage) -> Iterator[tuple[int, str]]:
    """The parts of a passage that lie within one block each: (offset in the document's text, text)."""
    for start, end in passage.spans or ((passage.start, passage.end),):
        inside = max(start, passage.start), min(end, passage.end)
        if inside[0] < inside[1]:
            yield inside[0], passage.text[inside[0] - passage.start : inside[1] - passage.start]


def locate(quote: str, passage: Passage) -> tuple[int, int] | None:
    """Offsets in the document's text of the first exact occurrence of `quote` within one block, or None."""
    if not quote.strip():
        return None
    for offset, text in block_pieces(passage):
        position = text.find(quote)
        if position >= 0:
            return offset + position, offset + position + len(quote)
    return None


def still_holds(citation: Citation, passage: Passage | None) -> bool:
    """Whether the citation is byte-equal to the current text of its chunk, within one block.

    Parameters
    ----------
    passage
        The chunk as the reader may see it now; None when it is gone or no longer visible to them.
    """
    if passage is None or passage.chunk_id != citation.chunk_id or not citation.quote.strip():
        return False
    if citation.end - citation.start != len(citation.quote):
        return False
    for offset, text in block_pieces(passage):
        if offset <= citation.start and citation.end <= offset + len(text):
            return text[citation.start - offset : citation.end - offset] == citation.quote
    return False
