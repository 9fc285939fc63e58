"""What an answer shows as evidence: a verbatim quote and where it stands. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PUBLIC_KEYS = ("n", "document", "title", "page", "start", "end", "quote")


@dataclass(frozen=True)
class Citation:
    """One checked quote.

    `start` and `end` are half-open character offsets in the document's extracted text, and `quote` equals that text
    there. `chunk_id` and `doc_key` tie it to the ledger; they are None for evidence in the question itself.
    """

    n: int
    document: str
    title: str
    page: int | None
    start: int
    end: int
    quote: str
    chunk_id: str | None = None
    doc_key: str | None = None

    def public(self) -> dict[str, Any]:
        """The keys that callers see."""
        return {key: getattr(self, key) for key in PUBLIC_KEYS}

    def stored(self) -> dict[str, Any]:
        """All fields, for the record of the answer."""
        return asdict(self)


@dataclass(frozen=True)
class Sentence:
    """One sentence of an answer and the numbers of the citations that support it. Empty: nothing was checked against it."""

    text: str
    citations: tuple[int, ...] = ()
