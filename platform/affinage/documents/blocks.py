"""A document after extraction: blocks of text in reading order, each with its page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BlockKind = Literal["heading", "paragraph", "list_item", "table", "code"]
SEPARATOR = "\n\n"
# Between two blocks in the extracted text; offsets of citations count it.


@dataclass(frozen=True)
class Block:
    """One heading, paragraph, list item, table or code block.

    `text` is never empty. `level` is 1 to 6 for headings. `page` counts from 1 where the format has pages. `rows` holds
    the cells of a table, whose `text` has one line a row with cells joined by ` | `.
    """

    kind: BlockKind
    text: str
    level: int | None = None
    page: int | None = None
    rows: tuple[tuple[str, ...], ...] | None = None


@dataclass(frozen=True)
class ExtractedDocument:
    """What extraction found in one document."""

    title: str
    language: str
    blocks: tuple[Block, ...]
    ocr_pages: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """The extracted text, in which `start` and `end` of citations count."""
        return SEPARATOR.join(block.text for block in self.blocks)

    def spans(self) -> list[tuple[int, int]]:
        """Half-open character offsets of each block in `text`."""
        spans, position = [], 0
        for block in self.blocks:
            spans.append((position, position + len(block.text)))
            position += len(block.text) + len(SEPARATOR)
        return spans
