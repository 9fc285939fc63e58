"""From the lines of pages to blocks: headings by size and weight, list items, tables, paragraphs. Pure.

Page furniture (running headers and footers, page numbers) goes first, then lines are joined into blocks, also across
pages; a word hyphenated at a line's end becomes whole again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from affinage.documents.blocks import Block
from affinage.documents.extraction.html import table

HYPHEN = "\u2010"
# In a line's text: a hyphen that is there because the line ends.

FURNITURE_SHARE = 0.5
# Of the pages: what stands at the top or bottom of more of them is furniture.
MARGIN_LINES = 3
# Lines from the top and from the bottom of a page where furniture is looked for.
SAME_BASELINE = 0.2
# Of the font size: how far baselines of one line may lie apart.
MARGIN_GAP = 1.5
# Times the font size: white space between furniture and text.
PAGE_NUMBER_ZONE = 0.1
# Of the page's height, at its top and bottom: where a lone number is a page number.
LARGER = 1.12
# Times the body's size: a heading.
PARAGRAPH_GAP = 1.3
# Times the usual distance of lines: the next one begins a paragraph.
MAX_HEADING_LENGTH = 200

_TERMINAL = (".", "!", "?", ":", ";", "…", "»", "”")
_BULLET = re.compile(r"[•●○◦▪■□‣⁃–—*-]\s+(?=\S)")
_NUMBER = re.compile(r"(?:\d{1,2}[.)]|[a-z]\))\s+(?=\S)")
_MARK_ALONE = re.compile(r"[•●○◦▪■□‣⁃–—*-]|\(?(?:[\dIVX]{1,4}(?:\.\d{1,3})*|[a-zA-Z](?=[.)]))[.)]?|[§▶➢✓o]")
# What stands before a wide gap in a list item or a numbered heading.
_DIGITS = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(r"(?:page|p\.)?\s*[-–—]?\s*\d{1,4}\s*[-–—]?(?:\s*(?:/|sur|of|de)\s*\d{1,4})?", re.IGNORECASE)
_COMPOUND = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)+")
_CLITICS = "il elle ils elles on je tu nous vous ce ci là moi toi lui leur le la les y en t même mêmes être"
_KEEP_HYPHEN_BEFORE = frozenset(_CLITICS.split())


@dataclass(frozen=True)
class Cell:
    """A stretch of a line without a wide gap."""

    left: float
    right: float
    text: str


@dataclass(frozen=True)
class Line:
    """One line of a page. Lengths are in points, `baseline` counts from the page's bottom. `rows`: it stands for a ruled table."""

    page: int
    cells: tuple[Cell, ...]
    baseline: float
    height: float
    size: float
    bold: bool
    rows: tuple[tuple[str, ...], ...] | None = None

    @property
    def text(self) -> str:
        """All its cells."""
        return " ".join(cell.text for cell in self.cells)

    @property
    def left(self) -> float:
        """Where it begins."""
        return self.cells[0].left

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.cells[-1].right


@dataclass
class _Open:
    """A block being built."""

    kind: str
    lines: list[Line]
    level: int | None = None
    strip: int = 0
    # Characters of the bullet or number before the text of the first line.


@dataclass
class _Style:
    """What is usual in this document."""

    size: float
    bold: bool
    leading: float
    levels: dict[float, int]
    right: dict[int, float] = field(default_factory=dict)


def blocks_of(pages: Sequence[Sequence[Line]]) -> list[Block]:
    """The blocks of a document, given the lines of each page in reading order."""
    kept = without_furniture([list(_whole_lines(page)) for page in pages])
    lines = [line for page in kept for line in page]
    if not lines:
        return []
    style = _style([line for line in lines if line.rows is None] or lines)
    compounds = {word.lower() for line in lines for word in _COMPOUND.findall(line.text)}
    return [block for group in _grouped(lines, style) if (block := _closed(group, compounds)) is not None]


def _whole_lines(page: Sequence[Line]) -> Iterator[Line]:
    """Lines that follow one another on the same baseline, as one: narrow cells of a table come one by one."""
    whole: Line | None = None
    for line in page:
        if whole is None:
            whole = line
        elif (
            line.rows is None
            and whole.rows is None
            and abs(whole.baseline - line.baseline) < SAME_BASELINE * line.size
            and line.left > whole.right
        ):
            whole = replace(whole, cells=whole.cells + line.cells, bold=whole.bold and line.bold)
        else:
            yield whole
            whole = line
    if whole is not None:
        yield whole


def without_furniture(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """The pages without running headers and footers and page numbers; as they are, if nothing else were left."""
    seen: Counter[tuple[str, str]] = Counter()
    for page in pages:
        seen.update({(where, _shape(line)) for line, where in _margins(page)})
    repeated = {key for key, count in seen.items() if count >= 2 and count > FURNITURE_SHARE * len(pages)}
    kept = []
    for page in pages:
        dropped = {id(line) for line, where in _margins(page) if (where, _shape(line)) in repeated or _is_page_number(line)}
        kept.append([line for line in page if id(line) not in dropped])
    return kept if any(kept) else [list(page) for page in pages]


def _margins(page: Sequence[Line]) -> Iterator[tuple[Line, str]]:
    """The outermost lines that white space parts from the text: the first lines of a paragraph are no header."""
    ordered = sorted((line for line in page if line.rows is None), key=lambda line: -line.baseline)
    for where, lines in (("top", ordered), ("bottom", ordered[::-1])):
        for count in range(1, MARGIN_LINES + 1):
            following = lines[count : count + 1]
            if not following or abs(lines[count - 1].baseline - following[0].baseline) > MARGIN_GAP * lines[count - 1].size:
                for line in lines[:count]:
                    yield line, where


def _shape(line: Line) -> str:
    """A line's text; numbers count as equal near the edge of the page only, where they are page numbers."""
    return _DIGITS.sub("#", line.text.lower()) if _at_edge(line) else line.text.lower()


def _at_edge(line: Line) -> bool:
    return not PAGE_NUMBER_ZONE * line.height < line.baseline < (1 - PAGE_NUMBER_ZONE) * line.height


def _is_page_number(line: Line) -> bool:
    return _at_edge(line) and bool(_PAGE_NUMBER.fullmatch(line.text))


def _style(lines: Sequence[Line]) -> _Style:
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[line.size] += len(line.text)
    body = max(sizes, key=lambda size: (sizes[size], -size))
    in_body = [line for line in lines if line.size == body]
    bold = 2 * sum(len(line.text) for line in in_body if line.bold) > sum(len(line.text) for line in in_body)
    gaps = Counter(
        round(2 * (before.baseline - line.baseline)) / 2
        for before, line in pairwise(lines)
        if before.page == line.page and before.size == line.size == body and 0 < before.baseline - line.baseline < 3 * body
    )
    usual = min((gap for gap, count in gaps.items() if count == max(gaps.values())), default=1.2 * body)
    larger = sorted({line.size for line in lines if line.size >= LARGER * body}, reverse=True)
    levels = {size: min(rank, 6) for rank, size in enumerate(larger, start=1)}
    right: dict[int, float] = {}
    for line in lines:
        right[line.page] = max(right.get(line.page, 0.0), line.right)
    return _Style(body, bold, min(usual, 1.6 * body), levels, right)


def _grouped(lines: Sequence[Line], style: _Style) -> Iterator[_Open]:
    current: _Open | None = None
    position = 0
    while position < len(lines):
        rows = _table_rows(lines, position)
        if rows:
            if current is not None:
                yield current
            yield _Open("table", list(lines[position : position + rows]))
            current, position = None, position + rows
            continue
        line = lines[position]
        started = _start(line, current, style)
        if started is not None:
            if current is not None:
                yield current
            current = started
        else:
            assert current is not None
            current.lines.append(line)
        position += 1
    if current is not None:
        yield current


def _table_rows(lines: Sequence[Line], start: int) -> int:
    """How many lines from `start` on are rows of one table: at least two with the same columns, else 0."""
    first = lines[start]
    if first.rows is not None:
        return 1
    if len(first.cells) < 2 or (len(first.cells) == 2 and _MARK_ALONE.fullmatch(first.cells[0].text)):
        return 0
    count = 1
    for line in lines[start + 1 :]:
        if line.page != first.page or line.rows is not None or len(line.cells) != len(first.cells) or not _aligned(first, line):
            break
        count += 1
    return count if count > 1 else 0


def _aligned(first: Line, other: Line) -> bool:
    tolerance = 1.2 * max(first.size, other.size)
    pairs = list(zip(first.cells, other.cells, strict=True))
    return all(
        abs(a.left - b.left) < tolerance or abs(a.right - b.right) < tolerance or abs(a.left + a.right - b.left - b.right) < 2 * tolerance
        for a, b in pairs
    )


def _start(line: Line, current: _Open | None, style: _Style) -> _Open | None:
    """The block that `line` begins; None when it goes on with `current`."""
    before = current.lines[-1] if current is not None else None
    apart = before is None or _is_apart(before, line, style)
    level = _heading_level(line, style, apart=apart or (current is not None and current.kind == "heading"))
    if level is not None:
        goes_on = current is not None and before is not None and current.kind == "heading" and current.level == level
        near = goes_on and before is not None and before.page == line.page and 0 <= before.baseline - line.baseline < 1.8 * line.size
        return None if near else _Open("heading", [line], level=level)
    if len(line.cells) > 1 and _MARK_ALONE.fullmatch(line.cells[0].text):
        return _Open("list_item", [line], strip=len(line.cells[0].text))
    bullet = _BULLET.match(line.text) or (_NUMBER.match(line.text) if apart or (before and _has_ended(before)) else None)
    if bullet:
        return _Open("list_item", [line], strip=bullet.end())
    if current is None or before is None or current.kind in ("heading", "table"):
        return _Open("paragraph", [line])
    if before.page != line.page or line.baseline > before.baseline + line.size:
        # A new page or column: the sentence may go on there.
        return None if not _has_ended(before) and line.text[:1].islower() else _Open("paragraph", [line])
    dedented = current.kind == "list_item" and line.left <= current.lines[0].left + 0.3 * line.size and _has_ended(before)
    indented = line.left > before.left + 0.8 * line.size and current.kind == "paragraph" and _has_ended(before)
    short = before.right < style.right[before.page] - 0.2 * (style.right[before.page] - before.left) and _has_ended(before)
    return _Open("paragraph", [line]) if apart or dedented or indented or short else None


def _is_apart(before: Line, line: Line, style: _Style) -> bool:
    """Whether more than a line's distance, or another size, lies between two lines of a page."""
    if before.page != line.page:
        return False
    distance = before.baseline - line.baseline
    return distance > PARAGRAPH_GAP * style.leading * max(1.0, line.size / style.size) or abs(before.size - line.size) > 0.15 * style.size


def _has_ended(line: Line) -> bool:
    return line.text.endswith(_TERMINAL)


def _heading_level(line: Line, style: _Style, *, apart: bool) -> int | None:
    text = line.text
    columns = len(line.cells) - bool(_MARK_ALONE.fullmatch(line.cells[0].text))
    if columns > 1 or len(text) > MAX_HEADING_LENGTH or not any(character.isalpha() for character in text):
        return None
    if line.size in style.levels:
        return style.levels[line.size]
    stands_out = line.bold and not style.bold and line.size >= 0.95 * style.size
    if stands_out and apart and not text.endswith((".", ",", ";", HYPHEN)) and not _BULLET.match(text):
        return min(len(style.levels) + 1, 6)
    return None


def _closed(group: _Open, compounds: set[str]) -> Block | None:
    page = group.lines[0].page
    if group.kind == "table":
        ruled = group.lines[0].rows
        found = table([list(row) for row in ruled] if ruled is not None else [[cell.text for cell in line.cells] for line in group.lines])
        return found and Block(found.kind, found.text, page=page, rows=found.rows)
    text = joined((line.text for line in group.lines), compounds)[group.strip :].strip()
    if not text:
        return None
    if group.kind == "heading":
        return Block("heading", text, level=group.level, page=page)
    return Block("list_item" if group.kind == "list_item" else "paragraph", text, page=page)


def joined(lines: Iterable[str], compounds: Collection[str] = ()) -> str:
    """The lines of a block as one text; a word cut at a line's end becomes whole. `compounds` are written with a hyphen."""
    parts: list[str] = []
    for line in lines:
        if not parts:
            parts.append(line)
            continue
        before = parts[-1]
        if before.endswith((HYPHEN, "-")) and len(before) > 1 and before[-2].isalpha() and line[:1].isalpha():
            parts[-1] = before[:-1] + ("-" if _keeps_hyphen(before[:-1], line, compounds) else "")
            parts.append(line)
        else:
            parts.append(" " + line)
    return "".join(parts).replace(HYPHEN, "-")


def _keeps_hyphen(before: str, after: str, compounds: Collection[str]) -> bool:
    """Whether a word cut at a line's end is written with a hyphen anywhere: "peut-être", but not "informa-tion"."""
    left = re.split(r"[^\w-]", before)[-1]
    right = re.split(r"[^\w-]", after, maxsplit=1)[0]
    return not right.islower() or right.lower() in _KEEP_HYPHEN_BEFORE or f"{left}-{right}".lower() in compounds
