"""Names of chunks and rows, made from content. Pure.

A chunk's name holds neither position nor path, so an insertion above it, a move or a renamed file change nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

ID_BYTES = 16
# 128 bits: no collision to be expected below 2**60 chunks.


def _digest(*parts: bytes) -> str:
    # Lengths first: ("ab", "c") and ("a", "bc") must differ.
    framed = b"".join(piece for part in parts for piece in (len(part).to_bytes(8, "big"), part))
    return hashlib.blake2b(framed, digest_size=ID_BYTES).hexdigest()


def raw_hash(data: bytes) -> str:
    """Digest of a document's bytes."""
    return _digest(data)


def embed_hash(embed_text: str) -> str:
    """Digest of the exact string that is embedded."""
    return _digest(embed_text.encode("utf-8", "surrogatepass"))


def chunk_id(doc_key: str, text_hash: str, occurrence: int) -> str:
    """Name of the `occurrence`-th chunk (from 0) of the document whose embedded text has the digest `text_hash`."""
    return _digest(doc_key.encode(), text_hash.encode(), str(occurrence).encode())


def chunk_ids(doc_key: str, text_hashes: Sequence[str]) -> list[str]:
    """Names of a document's chunks, in reading order; equal texts are told apart by their order among themselves."""
    seen: Counter[str] = Counter()
    names = []
    for text_hash in text_hashes:
        names.append(chunk_id(doc_key, text_hash, seen[text_hash]))
        seen[text_hash] += 1
    return names


def row_id(chunk: str, fence: int) -> str:
    """Name of the physical row of `chunk` written under `fence`: a late writer's rows never meet a newer writer's."""
    return _digest(chunk.encode(), str(fence).encode())
