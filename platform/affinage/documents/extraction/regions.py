"""Grids of cells as blocks: what lies between empty rows is a table of its own. For spreadsheets and CSV. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from affinage.documents.blocks import Block
from affinage.documents.extraction.html import table


def regions(rows: Iterable[list[str]]) -> Iterator[Block]:
    """Tables of consecutive filled rows, in order; a row of one cell above a table is its caption, a paragraph."""
    pending: list[list[str]] = []
    for row in rows:
        if any(row):
            pending.append(row)
        else:
            yield from _blocks(pending)
            pending = []
    yield from _blocks(pending)


def _blocks(rows: list[list[str]]) -> Iterator[Block]:
    while len(rows) > 1 and sum(map(bool, rows[0])) == 1 and any(sum(map(bool, row)) > 1 for row in rows):
        yield Block("paragraph", next(filter(None, rows[0])))
        rows = rows[1:]
    if not rows:
        return
    width = max(map(len, rows))
    used = [column for column in range(width) if any(column < len(row) and row[column] for row in rows)]
    found = table([[row[column] if column < len(row) else "" for column in used] for row in rows])
    if found is not None:
        yield found
