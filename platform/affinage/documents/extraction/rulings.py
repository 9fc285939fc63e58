"""Ruled tables: from the lines drawn on a page to grids, and from the text inside one to rows of cells. Pure.

A cell's text may have several lines, and a cell may be empty: only the rulings tell. Lengths are in points, y counts upwards.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from affinage.documents.extraction.layout import Line

TOLERANCE = 1.5
# How far ends of rulings that meet may lie apart, and how thick a ruling may be that is drawn as a filled box.
MAX_RULINGS = 2_000
# Of one page, in one direction: more are a drawing.
LEAST_FILLED = 0.3
# Of a grid's cells: with fewer, it is a diagram or a form to fill in.


@dataclass(frozen=True)
class Ruling:
    """A straight line at `at`, from `start` to `end` along its direction."""

    at: float
    start: float
    end: float


@dataclass(frozen=True)
class Grid:
    """Where the rulings of one table lie: `columns` from the left, `rows` from the top; and the upright ones as drawn."""

    columns: tuple[float, ...]
    rows: tuple[float, ...]
    upright: tuple[Ruling, ...]

    def holds(self, x: float, y: float) -> bool:
        """Whether a place lies inside."""
        return self.columns[0] <= x <= self.columns[-1] and self.rows[-1] <= y <= self.rows[0]

    def parts(self, left: float, right: float, y: float) -> bool:
        """Whether an upright ruling stands between two places of one height."""
        return any(left - 1 <= ruling.at <= right + 1 and ruling.start <= y <= ruling.end for ruling in self.upright)


def merged(rulings: Iterable[Ruling]) -> list[Ruling]:
    """Rulings in one another's continuation as one; a table's are often drawn cell by cell."""
    done: list[Ruling] = []
    for ruling in sorted(rulings, key=lambda one: (round(one.at / TOLERANCE), one.start)):
        last = done[-1] if done else None
        if last is not None and abs(last.at - ruling.at) <= TOLERANCE and ruling.start <= last.end + TOLERANCE:
            done[-1] = Ruling(last.at, last.start, max(last.end, ruling.end))
        else:
            done.append(ruling)
    return done


def grids(level: Sequence[Ruling], upright: Sequence[Ruling]) -> list[Grid]:
    """Sets of rulings that cross, with at least two rows and two columns."""
    level, upright = merged(level), merged(upright)
    if max(len(level), len(upright)) > MAX_RULINGS:
        return []
    groups = list(range(len(level) + len(upright)))

    def group(of: int) -> int:
        while groups[of] != of:
            groups[of] = of = groups[groups[of]]
        return of

    for number, across in enumerate(level):
        for other, down in enumerate(upright, start=len(level)):
            meets = across.start - TOLERANCE <= down.at <= across.end + TOLERANCE
            if meets and down.start - TOLERANCE <= across.at <= down.end + TOLERANCE:
                groups[group(number)] = group(other)
    found = []
    for name in sorted({group(number) for number in range(len(groups))}):
        downs = [down for other, down in enumerate(upright, start=len(level)) if group(other) == name]
        rows = _places(across.at for number, across in enumerate(level) if group(number) == name)
        columns = _places(down.at for down in downs)
        if len(rows) > 2 and len(columns) > 2:
            found.append(Grid(columns, rows[::-1], tuple(downs)))
    return found


def with_tables(lines: Sequence[Line], found: Sequence[Grid], *, joined: Callable[[Iterable[str]], str]) -> list[Line]:
    """The lines of a page, those inside a grid as one line that holds the table's rows, where the first of them stood.

    Parameters
    ----------
    joined
        Makes one text of the lines of a cell.
    """
    inside: dict[int, list[Line]] = {}
    for line in lines:
        number = next((number for number, grid in enumerate(found) if grid.holds(line.left, line.baseline)), None)
        if number is not None:
            inside.setdefault(number, []).append(line)
    rows = {number: _rows(found[number], held, joined) for number, held in inside.items()}
    tables = {number: cells for number, cells in rows.items() if _is_table(cells)}
    where = {id(line): number for number, held in inside.items() if number in tables for line in held}
    kept: list[Line] = []
    for line in lines:
        number = where.get(id(line))
        if number is None:
            kept.append(line)
        elif line is inside[number][0]:
            kept.append(replace(line, rows=tables[number]))
    return kept


def _rows(grid: Grid, lines: Sequence[Line], joined: Callable[[Iterable[str]], str]) -> tuple[tuple[str, ...], ...]:
    width, height = len(grid.columns) - 1, len(grid.rows) - 1
    texts: list[list[list[tuple[float, str]]]] = [[[] for _ in range(width)] for _ in range(height)]
    falling = [-y for y in grid.rows]
    for line in lines:
        row = min(max(bisect_right(falling, -line.baseline) - 1, 0), height - 1)
        for cell in line.cells:
            column = min(max(bisect_right(grid.columns, cell.left + TOLERANCE) - 1, 0), width - 1)
            texts[row][column].append((-line.baseline, cell.text))
    return tuple(tuple(joined(text for _, text in sorted(cell, key=lambda one: one[0])) for cell in row) for row in texts)


def _is_table(rows: Sequence[Sequence[str]]) -> bool:
    filled = sum(bool(cell) for row in rows for cell in row)
    return filled >= LEAST_FILLED * len(rows) * len(rows[0]) and sum(any(row) for row in rows) > 1


def _places(values: Iterable[float]) -> tuple[float, ...]:
    """Distinct values, rising."""
    ordered = sorted(values)
    return tuple(value for before, value in pairwise([float("-inf"), *ordered]) if value - before > TOLERANCE)
