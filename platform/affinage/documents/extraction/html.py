"""HTML, read as a stream of tags: no tree is built, so depth and length cost nothing but time.

Scripts, styles, navigation, comments and what a browser would hide are dropped: a reader of the page could not see it,
so nobody may be answered with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from affinage.documents.blocks import Block, BlockKind
from affinage.documents.extraction.decoding import clean, decode, lines, one_line
from affinage.documents.extraction.dispatch import Extraction
from affinage.errors import DocumentError

_SKIPPED = "script style nav template noscript svg math iframe object embed canvas audio video select option datalist button textarea"
SKIPPED = frozenset(_SKIPPED.split())
_INLINE = (
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img input ins kbd label mark q rp rt ruby s samp small span strike"
    " strong sub sup time tt u var wbr"
)
INLINE = frozenset(_INLINE.split())
HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|font-size\s*:\s*0(?:[a-z%;\s]|$)", re.IGNORECASE)
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
_DECLARED = re.compile(r"^(iso-8859-\d+|windows-125\d|cp125\d|koi8-[ru]|shift[_-]jis|euc-(jp|kr)|gb2312|gbk|gb18030|big5)$", re.IGNORECASE)
_FEED_BYTES = 1 << 20
MAX_DEPTH = 10_000
# Tags inside one another; people's pages have less than a hundred.


def read(data: bytes, *, path: str) -> Extraction:
    """Blocks of an HTML page."""
    try:
        blocks, title = blocks_of(clean(decode(data, path=path, declared=_declared(data))))
    except TooDeepError as error:
        raise DocumentError(path, "damaged", f"{path} has more than {MAX_DEPTH} tags inside one another.", hint="Save it anew.") from error
    return Extraction(tuple(blocks), title)


def _declared(data: bytes) -> str | None:
    """The encoding in a `meta` tag, when it is one that pages use; ISO-8859-1 means Windows-1252 on the web."""
    found = _CHARSET.search(data[:4096])
    name = found.group(1).decode("ascii", "replace").lower() if found else ""
    return name if _DECLARED.match(name) and name != "iso-8859-1" else None


def blocks_of(text: str) -> tuple[list[Block], str]:
    """Blocks of a page, or of a piece of one, and its `title`."""
    if not text.strip():
        return [], ""
    from lxml import etree  # noqa: PLC0415 - heavy

    reader = _Reader()
    # huge_tree: libxml2 would silently stop at long texts.
    parser = etree.HTMLParser(target=reader, encoding="utf-8", huge_tree=True, no_network=True)
    raw = text.encode("utf-8")
    for start in range(0, len(raw), _FEED_BYTES):
        parser.feed(raw[start : start + _FEED_BYTES])
    parser.close()
    return reader.blocks, one_line("".join(reader.title))


class TooDeepError(Exception):
    """More than `MAX_DEPTH` open tags."""


class _Reader:
    """Receives the parser's events and collects blocks."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.title: list[str] = []
        self._open: list[tuple[str, bool]] = []
        self._hidden = 0
        self._text: list[str] = []
        self._pre = 0
        self._items = 0
        self._item_started = False
        self._level: int | None = None
        self._tables = 0
        self._rows: list[list[str]] = []
        self._cell: list[str] | None = None

    # -- the parser's events

    def start(self, tag: object, attributes: Mapping[str, str]) -> None:
        """A tag opens."""
        name = str(tag).lower()
        hides = name in SKIPPED or _is_hidden(attributes)
        if len(self._open) >= MAX_DEPTH:
            raise TooDeepError
        self._open.append((name, hides))
        self._hidden += hides
        if self._hidden:
            return
        if name == "br":
            self._add("\n")
        elif name not in INLINE:
            self._start_block(name)
        elif name == "img" and attributes.get("alt"):
            self._add(f" {attributes['alt']} ")

    def end(self, tag: object) -> None:
        """A tag closes. libxml2 closes what was left open, in order."""
        name = str(tag).lower()
        while self._open:
            opened, hides = self._open.pop()
            if not self._hidden and opened not in INLINE and opened != "br":
                self._end_block(opened)
            self._hidden -= hides
            if opened == name:
                break

    def data(self, text: str) -> None:
        """Characters between tags."""
        if self._open and self._open[-1][0] == "title":
            self.title.append(text)
        elif not self._hidden:
            self._add(text if self._pre else re.sub(r"[\s\xa0]+", " ", text))

    def comment(self, text: str) -> None:
        """A comment: dropped."""

    def pi(self, target: str, data: str | None = None) -> None:
        """A processing instruction: dropped."""

    def doctype(self, *parts: object) -> None:
        """The document type: dropped."""

    def close(self) -> None:
        """The page ends."""
        self._flush()
        self._end_table()

    # -- blocks

    def _add(self, text: str) -> None:
        (self._text if self._cell is None else self._cell).append(text)

    def _start_block(self, name: str) -> None:
        if self._tables:
            self._start_in_table(name)
            return
        self._flush()
        if name == "table":
            self._tables, self._rows = 1, []
        elif name == "pre":
            self._pre += 1
        elif name == "li":
            self._items += 1
            self._item_started = False
        elif name in HEADINGS:
            self._level = HEADINGS[name]

    def _end_block(self, name: str) -> None:
        if self._tables:
            self._end_in_table(name)
            return
        self._flush()
        if name == "pre":
            self._pre = max(0, self._pre - 1)
        elif name == "li":
            self._items = max(0, self._items - 1)
            self._item_started = True
        elif name in HEADINGS:
            self._level = None

    def _start_in_table(self, name: str) -> None:
        if name == "table":
            self._tables += 1
        elif self._tables == 1 and name == "tr":
            self._rows.append([])
            self._cell = None
        elif self._tables == 1 and name in ("td", "th"):
            self._flush()
            if not self._rows:
                self._rows.append([])
            self._cell = []
        elif self._tables == 1 and name == "caption":
            self._flush()
        else:
            self._add(" ")

    def _end_in_table(self, name: str) -> None:
        if name == "table":
            self._tables -= 1
            if not self._tables:
                self._tables = 1
                self._close_cell()
                self._end_table()
        elif self._tables == 1 and name in ("td", "th"):
            self._close_cell()
        elif self._tables == 1 and name == "caption":
            self._flush()
        else:
            self._add(" ")

    def _close_cell(self) -> None:
        if self._cell is not None and self._rows:
            self._rows[-1].append(one_line("".join(self._cell)))
        self._cell = None

    def _end_table(self) -> None:
        self._close_cell()
        self._tables = 0
        self._flush()
        block = table(self._rows)
        if block is not None:
            self.blocks.append(block)
        self._rows = []

    def _flush(self) -> None:
        raw = "".join(self._text)
        self._text = []
        text = raw.strip("\n").rstrip() if self._pre else lines(raw)
        if not text.strip():
            return
        kind: BlockKind = "paragraph"
        if self._level is not None:
            self.blocks.append(Block("heading", one_line(text), level=self._level))
            return
        if self._pre:
            kind = "code"
        elif self._items and not self._item_started:
            kind = "list_item"
            self._item_started = True
        self.blocks.append(Block(kind, text))


def table(rows: list[list[str]]) -> Block | None:
    """A table block of `rows`; None when nothing is in it; a paragraph when it has one cell: a frame, not a table."""
    kept = tuple(tuple(row) for row in rows if any(row))
    if not kept:
        return None
    if len(kept) == 1 and len(kept[0]) == 1:
        return Block("paragraph", kept[0][0])
    return Block("table", "\n".join(" | ".join(row) for row in kept), rows=kept)


def _is_hidden(attributes: Mapping[str, str]) -> bool:
    if not attributes:
        return False
    if "hidden" in attributes or attributes.get("aria-hidden", "").lower() == "true" or attributes.get("role", "").lower() == "navigation":
        return True
    return bool(_HIDDEN_STYLE.search(attributes.get("style", "")))
