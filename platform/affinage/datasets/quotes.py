"""Which chunks a correction quotes, to the character (runs of white space count as one blank).

Streams the ledger's chunks once for all corrections: memory grows with the corrections, not with the index.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import Connection, select

from affinage.database.tables.index import chunk
from affinage.documents.sentences import sentence_spans

ANCHOR_WORDS = 4
# A shorter quote stands in many chunks by chance.
_MARKS = " \t\r\n\"'«»“”‘’-*•"


def quoted_chunks(texts: Mapping[str, str], chunks: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Ids of the chunks that hold a whole sentence of each text, those that hold most of its words first. Pure.

    Parameters
    ----------
    texts
        Corrections by key.
    chunks
        (chunk id, text).
    """
    anchors: dict[tuple[str, ...], set[tuple[str, str]]] = defaultdict(set)
    for key, text in texts.items():
        for sentence in _sentences(text):
            anchors[tuple(sentence.split(" ")[:ANCHOR_WORDS])].add((key, sentence))
    held: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for chunk_id, text in chunks:
        words = text.split()
        flat = " ".join(words)
        for i in range(len(words) - ANCHOR_WORDS + 1):
            for key, sentence in anchors.get(tuple(words[i : i + ANCHOR_WORDS]), ()):
                if sentence in flat:
                    held[key][chunk_id].add(sentence)
    return {key: sorted(found, key=lambda chunk_id: (-sum(map(len, found[chunk_id])), chunk_id)) for key, found in held.items()}


def _sentences(text: str) -> Iterator[str]:
    whole = " ".join(text.strip(_MARKS).split())
    pieces = [" ".join(text[start:end].strip(_MARKS).split()) for start, end in sentence_spans(text)]
    for piece in dict.fromkeys([whole, *pieces]):
        if len(piece.split(" ")) >= ANCHOR_WORDS:
            yield piece


def ledger_chunks(connection: Connection, generations: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(chunk id, text) of every chunk of these generations, streamed."""
    query = select(chunk.c.chunk_id, chunk.c.text).where(chunk.c.generation_id.in_(list(generations))).execution_options(yield_per=500)
    for row in connection.execute(query):
        yield row.chunk_id, row.text
