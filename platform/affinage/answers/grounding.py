"""From a model's reply to sentences that stand in the passages. Pure.

The model is treated as hostile: its prose proves nothing. It may only point, by quoting. A reply is cut into pieces; a
piece counts when it, or a quotation in it, stands in one block of a passage to the character. What is released is not
the piece but the whole sentence of the passage that holds it, so that fragments of true sentences cannot be spliced
into a false one. Everything else is dropped and counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from affinage.answers.citations import Citation, Sentence
from affinage.answers.quotes import block_pieces, locate
from affinage.documents.sentences import sentence_spans
from affinage.index.passages import Passage

MIN_QUOTE_CHARS = 12
MIN_QUOTE_WORDS = 3
# Below this a fragment stands in many sentences by chance ("of the", "il est").
MAX_SENTENCES = 12
# An endless reply does not become an endless answer.
_QUOTED = re.compile(r"[\"“«]\s?([^\"“”«»]+?)\s?[\"”»]")
_MARKER = re.compile(r"\[(\d{1,3})\]")


@dataclass(frozen=True)
class Grounded:
    """What of a reply stands in the passages. `unsupported` counts the pieces that do not."""

    sentences: tuple[Sentence, ...]
    citations: tuple[Citation, ...]
    unsupported: int


def ground(reply: str, passages: Sequence[Passage]) -> Grounded:
    """Map each piece of `reply` to a verbatim sentence of a passage, or drop it.

    Parameters
    ----------
    passages
        As numbered in the prompt, from 1. A marker `[n]` in a piece only says where to look first: the text decides.
    """
    citations: list[Citation] = []
    unsupported = 0
    for start, end in sentence_spans(reply):
        piece = reply[start:end]
        if not piece.strip(" \t\r\n-*•[]0123456789.,:;"):
            continue
        found = [hit for fragment in _fragments(piece) for hit in _find(fragment, _in_order(piece, passages))]
        if not found:
            unsupported += 1
        for passage, first, last in found:
            if len(citations) < MAX_SENTENCES and not any((c.chunk_id, c.start) == (passage.chunk_id, first) for c in citations):
                citations.append(cite(passage, first, last, n=len(citations) + 1))
    sentences = tuple(Sentence(citation.quote, (citation.n,)) for citation in citations)
    return Grounded(sentences, tuple(citations), unsupported)


def cite(passage: Passage, start: int, end: int, *, n: int) -> Citation:
    """The citation of the passage's text between two offsets of the document."""
    quote = passage.text[start - passage.start : end - passage.start]
    return Citation(n, passage.document, passage.title, passage.page, start, end, quote, passage.chunk_id, passage.doc_key)


def passage_sentences(passage: Passage) -> list[tuple[int, int]]:
    """Offsets in the document's text of the passage's sentences, none across two blocks."""
    found = []
    for offset, text in block_pieces(passage):
        for start, end in sentence_spans(text):
            piece = text[start:end]
            trimmed = start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
            if trimmed[0] < trimmed[1]:
                found.append((offset + trimmed[0], offset + trimmed[1]))
    return found


def _fragments(piece: str) -> list[str]:
    quoted = [match.strip() for match in _QUOTED.findall(piece)]
    bare = _MARKER.sub("", piece).strip(' \t\r\n-*•"“”«»')
    return [fragment for fragment in (quoted or [bare]) if _long_enough(fragment)]


def _long_enough(fragment: str) -> bool:
    return len(fragment) >= MIN_QUOTE_CHARS and len(fragment.split()) >= MIN_QUOTE_WORDS


def _in_order(piece: str, passages: Sequence[Passage]) -> list[Passage]:
    named = [int(number) - 1 for number in _MARKER.findall(piece)]
    first = [passages[i] for i in named if 0 <= i < len(passages)]
    return first + [passage for passage in passages if passage not in first]


def _find(fragment: str, passages: Sequence[Passage]) -> list[tuple[Passage, int, int]]:
    for passage in passages:
        span = locate(fragment, passage)
        if span is not None:
            return [(passage, *sentence) for sentence in passage_sentences(passage) if sentence[0] < span[1] and span[0] < sentence[1]]
    return []
