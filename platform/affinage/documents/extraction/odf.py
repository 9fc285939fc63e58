"""OpenDocument: texts (ODT), spreadsheets (ODS) and presentations (ODP). Shown values; no formula is ever evaluated.

Deleted text that a document keeps, comments and hidden sheets are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from affinage.documents.blocks import Block
from affinage.documents.extraction.decoding import lines, one_line
from affinage.documents.extraction.dispatch import Extraction
from affinage.documents.extraction.html import table
from affinage.documents.extraction.progress import step
from affinage.documents.extraction.regions import regions
from affinage.documents.extraction.trees import Package, attribute, descendants, local, named

_CONTAINERS = ("section", "list", "index-body", "list-header", "text-box", "g", "frame", "a", "numbered-paragraph")
_LEFT_OUT = ("tracked-changes", "annotation", "annotation-end", "forms", "sequence-decls", "bookmark", "notes", "variable-decls")
_FURNITURE = ("date-time", "footer", "header", "page-number")
_MAX_REPEATED = 1_000
# Of a filled cell or row: more are not written by people. Empty ones are not repeated at all.
_MAX_SPACES = 100


def read(data: bytes, *, path: str) -> Extraction:
    """Blocks of the document; the title of its properties."""
    package = Package(data, path=path, kind="OpenDocument file", suffix=path[path.rfind(".") :].lower())
    manifest = "META-INF/manifest.xml"
    if manifest in package and any(True for _ in descendants(package.tree(manifest), "encryption-data")):
        raise package.password()
    if "content.xml" not in package:
        raise package.damaged("it holds no content")
    try:
        blocks = tuple(block for body in descendants(package.tree("content.xml"), "body") for block in _body(body))
    except (RecursionError, ValueError) as error:
        raise package.damaged(type(error).__name__) from error
    return Extraction(blocks, one_line(package.title("meta.xml")))


def _body(body: Any) -> Iterator[Block]:
    for content in body.iterchildren():
        kind = local(content)
        if kind == "spreadsheet":
            yield from _sheets(content)
        elif kind == "presentation":
            for number, page in enumerate(named(content, "page"), start=1):
                yield from (replace(block, page=number) for block in _slide(page))
                step()
        else:
            yield from _blocks(content)


def _blocks(container: Any, *, item: bool = False) -> Iterator[Block]:
    """Blocks below `container`; `item`: the first paragraph is that of a list item."""
    for element in container.iterchildren():
        name = local(element)
        if name == "h":
            level = attribute(element, "outline-level", "1")
            yield from _block("heading", element, level=min(int(level), 6) if level.isdigit() else 1)
        elif name == "p":
            found = list(_block("list_item" if item else "paragraph", element))
            item = item and not found
            yield from found
        elif name == "list-item":
            yield from _blocks(element, item=True)
        elif name == "table":
            block = table(list(_rows(element)))
            if block is not None:
                yield block
        elif name in _CONTAINERS or name.endswith(("-index", "-of-content", "bibliography")):
            yield from _blocks(element)


def _block(kind: Any, element: Any, *, level: int | None = None) -> Iterator[Block]:
    aside: list[Any] = []
    text = lines("".join(_text(element, aside)))
    if text:
        yield Block(kind, one_line(text) if kind == "heading" else text, level=level)
    for other in aside:
        yield from _blocks(other)


def _text(element: Any, aside: list[Any]) -> Iterator[str]:
    """Visible text; boxes and notes met on the way are put into `aside`, to follow it."""
    yield element.text or ""
    for child in element.iterchildren():
        name = local(child)
        if name == "s":
            count = attribute(child, "c", "1")
            yield " " * min(int(count) if count.isdigit() else 1, _MAX_SPACES)
        elif name == "tab":
            yield " "
        elif name == "line-break":
            yield "\n"
        elif name in ("frame", "custom-shape", "g"):
            aside.append(child)
        elif name == "note":
            aside += named(child, "note-body")
        elif name and name not in _LEFT_OUT:
            yield from _text(child, aside)
        yield child.tail or ""


def _rows(element: Any) -> Iterator[list[str]]:
    for child in element.iterchildren():
        name = local(child)
        if name == "table-row":
            row = [shown for cell in named(child, "table-cell", "covered-table-cell") for shown in _cell(cell)]
            while row and not row[-1]:
                row.pop()
            yield from [row] * (_repeated(child, "number-rows-repeated") if row else 1)
        elif name in ("table-rows", "table-header-rows", "table-row-group"):
            yield from _rows(child)


def _cell(cell: Any) -> list[str]:
    shown = one_line(" ".join(block.text for block in _blocks(cell)))
    times = attribute(cell, "number-columns-repeated", "1")
    # An empty cell is repeated to the sheet's edge: as many as a table may have before something follows.
    return [shown] * min(int(times) if times.isdigit() else 1, _MAX_REPEATED)


def _repeated(element: Any, name: str) -> int:
    times = attribute(element, name, "1")
    return min(int(times) if times.isdigit() else 1, _MAX_REPEATED)


def _sheets(content: Any) -> Iterator[Block]:
    hidden = {
        attribute(style, "name")
        for style in descendants(content.getparent().getparent(), "style")
        for properties in named(style, "table-properties")
        if attribute(properties, "display") == "false"
    }
    for sheet in named(content, "table"):
        if attribute(sheet, "style-name") in hidden:
            continue
        blocks = list(regions(_rows(sheet)))
        name = one_line(attribute(sheet, "name"))
        if blocks and name and not name.lower().startswith(("sheet", "feuille", "tabelle")):
            yield Block("heading", name, level=1)
        yield from blocks
        step()


def _slide(page: Any) -> Iterator[Block]:
    frames = [frame for frame in page.iterchildren() if attribute(frame, "class") not in _FURNITURE]
    for frame in sorted(frames, key=lambda one: attribute(one, "class") != "title"):
        kind = attribute(frame, "class")
        if local(frame) == "notes":
            yield from (block for inner in named(frame, "frame") if attribute(inner, "class") == "notes" for block in _blocks(inner))
        elif kind == "title":
            text = one_line(" ".join(block.text for block in _blocks(frame)))
            if text:
                yield Block("heading", text, level=2)
        elif local(frame) == "custom-shape":
            yield from _blocks(frame)
        else:
            yield from _blocks(frame)
