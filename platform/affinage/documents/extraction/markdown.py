"""Markdown (CommonMark with tables), parsed by markdown-it in bounded pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from affinage.documents.blocks import Block, BlockKind
from affinage.documents.extraction import html
from affinage.documents.extraction.decoding import clean, decode, lines, one_line
from affinage.documents.extraction.dispatch import Extraction
from affinage.documents.extraction.progress import step

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

PIECE = 256 * 1024
# Characters parsed at once: tokens take some fifty times the memory of their text.
MAX_INLINE = 16 * 1024
# Characters of one paragraph whose emphasis and links are parsed; some marks cost quadratic time.

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"""^title[ \t]*:[ \t]*(["']?)(.{1,300}?)\1[ \t]*$""", re.MULTILINE | re.IGNORECASE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def read(data: bytes, *, path: str) -> Extraction:
    """Blocks of a Markdown document; the title of its front matter."""
    text = clean(decode(data, path=path))
    title = ""
    front = _FRONT_MATTER.match(text)
    if front:
        found = _TITLE.search(front.group(1))
        title = one_line(found.group(2)) if found else ""
        text = text[front.end() :]
    parser = _parser()
    blocks: list[Block] = []
    for piece in pieces(text):
        blocks.extend(_Walk(parser, piece).blocks())
        step()
    return Extraction(tuple(blocks), title)


def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt  # noqa: PLC0415

    # Inline content is parsed here, paragraph by paragraph, so that its length can be bounded.
    return MarkdownIt("commonmark", {"html": True}).enable("table").disable("inline")


def pieces(text: str) -> Iterator[str]:
    """`text` cut at empty lines outside fenced code, before a line that starts a new block, into pieces of some `PIECE`."""
    if len(text) <= PIECE:
        yield text
        return
    start = position = 0
    fence = ""
    empty = False
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end + 1
        line = text[position:end]
        long = position - start
        if not fence and empty and long >= PIECE and line[0] not in " \t\n":
            yield text[start:position]
            start = position
        elif long >= 8 * PIECE:
            # No place to cut: a list or a code block of megabytes goes on as if it began anew.
            yield text[start:position]
            start, fence = position, ""
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark.group(1)
        elif mark and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        empty = not line.strip()
        position = end
    yield text[start:]


class _Walk:
    """One pass over the tokens of a piece."""

    def __init__(self, parser: MarkdownIt, text: str) -> None:
        self._parser = parser
        self._env: dict[str, Any] = {}
        self._tokens: Sequence[Token] = parser.parse(text, self._env)
        self._fresh_items: list[bool] = []
        self._rows: list[list[str]] | None = None

    def blocks(self) -> Iterator[Block]:
        """The blocks, in order."""
        before = None
        for token in self._tokens:
            if token.type == "list_item_open":
                self._fresh_items.append(True)
            elif token.type == "list_item_close":
                self._fresh_items.pop()
            elif token.type in ("fence", "code_block"):
                if token.content.strip():
                    yield Block("code", token.content.strip("\n").rstrip())
            elif token.type == "html_block":
                yield from _html(token.content)
            elif token.type == "inline" and self._rows is None:
                yield from self._text_block(token, before)
            else:
                yield from self._table(token)
            before = token

    def _text_block(self, token: Token, before: Token | None) -> Iterator[Block]:
        text = self._inline(token.content)
        if not text:
            return
        if before is not None and before.type == "heading_open":
            yield Block("heading", one_line(text), level=int(before.tag[1]))
            return
        kind: BlockKind = "paragraph"
        if self._fresh_items and self._fresh_items[-1]:
            self._fresh_items[-1] = False
            kind = "list_item"
        yield Block(kind, text)

    def _table(self, token: Token) -> Iterator[Block]:
        if token.type == "table_open":
            self._rows = []
        elif self._rows is not None:
            if token.type == "tr_open":
                self._rows.append([])
            elif token.type == "inline":
                self._rows[-1].append(one_line(self._inline(token.content)))
            elif token.type == "table_close":
                block, self._rows = html.table(self._rows), None
                if block is not None:
                    yield block

    def _inline(self, source: str) -> str:
        if len(source) > MAX_INLINE:
            return lines(source)
        children: list[Token] = []
        self._parser.inline.parse(source, self._parser, self._env, children)
        return lines("".join(_visible(children)))


def _html(source: str) -> list[Block]:
    try:
        return html.blocks_of(source)[0]
    except html.TooDeepError:
        return [Block("code", lines(source))]


def _visible(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in ("text", "code_inline", "text_special"):
            yield token.content
        elif token.type == "softbreak":
            yield " "
        elif token.type == "hardbreak":
            yield "\n"
        elif token.type == "image":
            yield from _visible(token.children or [])
        elif token.type == "html_inline" and token.content.lower().startswith(("<br", "</p")):
            yield "\n"
