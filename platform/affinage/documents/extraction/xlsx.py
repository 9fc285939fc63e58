"""Spreadsheets (XLSX): each run of filled rows is a table. Values as they were last computed; no formula is ever evaluated.

A hidden sheet is left out, as hidden text of Word is; hidden rows and columns are not: a filter hides them and anybody shows
them again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from affinage.documents.blocks import Block
from affinage.documents.extraction.decoding import one_line
from affinage.documents.extraction.dispatch import Extraction
from affinage.documents.extraction.progress import step
from affinage.documents.extraction.regions import regions
from affinage.documents.extraction.trees import RELATION, Package, attribute, descendants, local, named

_DATES = frozenset({*range(14, 23), *range(45, 48)})
# Built-in formats that show a number as a date or a time; ECMA-376 part 1, 18.8.30.
_PERCENTS = {9: 0, 10: 2}
_NOT_SHOWN = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')
# Of a format: quoted text, escapes, colours and conditions.
_DEFAULT_NAME = re.compile(r"(?:sheet|feuil|feuille|tabelle|hoja|foglio)\s*\d*", re.IGNORECASE)
_REFERENCE = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_MAX_COLUMNS = 16_384
_MAX_DAYS = 2_958_466
# The year 10000, which no `datetime` holds.


def read(data: bytes, *, path: str) -> Extraction:
    """Blocks of a spreadsheet; the title of its properties."""
    package = Package(data, path=path, kind="spreadsheet", suffix=".xlsx")
    if "xl/workbook.xml" not in package:
        raise package.damaged("it holds no workbook")
    try:
        workbook = package.tree("xl/workbook.xml")
        blocks = tuple(_sheets(package, workbook))
    except (RecursionError, ValueError, IndexError, OverflowError) as error:
        raise package.damaged(type(error).__name__) from error
    return Extraction(blocks, one_line(package.title("docProps/core.xml")))


def _sheets(package: Package, workbook: Any) -> Iterator[Block]:
    parts = package.relations("xl/workbook.xml")
    values = _Values(package, workbook)
    for sheet in descendants(workbook, "sheet"):
        part = parts.get(sheet.get(RELATION, ""), "")
        if part not in package or sheet.get("state", "visible") != "visible":
            continue
        blocks = list(regions(values.rows(package.tree(part))))
        name = one_line(sheet.get("name", ""))
        if blocks and name and not _DEFAULT_NAME.fullmatch(name):
            yield Block("heading", name, level=1)
        yield from blocks
        step()


class _Values:
    """What the cells of one workbook show."""

    def __init__(self, package: Package, workbook: Any) -> None:
        self._strings: list[str] = []
        if "xl/sharedStrings.xml" in package:
            self._strings = [_text(item) for item in named(package.tree("xl/sharedStrings.xml"), "si")]
        self._formats = _formats(package.tree("xl/styles.xml")) if "xl/styles.xml" in package else []
        from_1904 = any(attribute(found, "date1904") in ("1", "true") for found in descendants(workbook, "workbookPr"))
        # In the 1900 system, day 60 is a 29 February that never was: right from March 1900 on.
        self._origin = datetime(1904, 1, 1) if from_1904 else datetime(1899, 12, 30)  # noqa: DTZ001  the format has no zone

    def rows(self, sheet: Any) -> Iterator[list[str]]:
        """The rows, empty ones as empty lists, each as long as its last filled cell."""
        expected = 1
        for row in descendants(sheet, "row"):
            number = int(row.get("r") or expected)
            if number > expected:
                yield []
            expected = number + 1
            cells: list[str] = []
            for cell in named(row, "c"):
                found = _REFERENCE.fullmatch(cell.get("r", ""))
                column = _column(found.group(1)) if found else len(cells)
                shown = self._shown(cell)
                if shown and len(cells) <= column < _MAX_COLUMNS:
                    cells += [""] * (column - len(cells)) + [shown]
            yield cells

    def _shown(self, cell: Any) -> str:
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            return one_line(_text(cell))
        value = next((child.text or "" for child in named(cell, "v")), "")
        if kind == "s":
            return one_line(self._strings[int(value)]) if value.isdigit() and int(value) < len(self._strings) else ""
        if kind == "b":
            return {"0": "FALSE", "1": "TRUE"}.get(value, value)
        if kind != "n":
            return one_line(value)
        style = cell.get("s", "0")
        return self._number(value, int(style) if style.isdigit() else 0)

    def _number(self, value: str, style: int) -> str:
        try:
            number = float(value)
        except ValueError:
            return one_line(value)
        form = self._formats[style] if style < len(self._formats) else None
        if form == "date" and 0 <= number < _MAX_DAYS:
            return self._date(number)
        if isinstance(form, int):
            return f"{100 * number:.{form}f}%"
        return f"{number:.15g}"

    def _date(self, number: float) -> str:
        days, seconds = divmod(round(number * 86_400), 86_400)
        at = self._origin + timedelta(days=days, seconds=seconds)
        if not seconds:
            return at.date().isoformat()
        time = at.strftime("%H:%M" if not at.second else "%H:%M:%S")
        return time if days == 0 else f"{at.date().isoformat()} {time}"


def _formats(styles: Any) -> list[str | int | None]:
    """For each cell style: `date`, the decimals of a percentage, or None."""
    own: Mapping[str, str] = {found.get("numFmtId", ""): found.get("formatCode", "") for found in descendants(styles, "numFmt")}
    found: list[str | int | None] = []
    for group in named(styles, "cellXfs"):
        for style in named(group, "xf"):
            number = style.get("numFmtId", "0")
            found.append(_format(own[number]) if number in own else _built_in(int(number) if number.isdigit() else 0))
    return found


def _built_in(number: int) -> str | int | None:
    return "date" if number in _DATES else _PERCENTS.get(number)


def _format(code: str) -> str | int | None:
    shown = _NOT_SHOWN.sub("", code).split(";")[0].lower()
    if "%" in shown:
        decimals = re.search(r"\.([0#?]+)", shown)
        return len(decimals.group(1)) if decimals else 0
    return "date" if re.search(r"[dmyhs]", shown) and "general" not in shown else None


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - 64
    return number - 1


def _text(item: Any) -> str:
    """Text of a string, whole or in runs, without its phonetic guide."""
    return "".join(part.text or "" for part in descendants(item, "t") if local(part.getparent()) != "rPh")
