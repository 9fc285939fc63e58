"""Presentations (PPTX): a page is a slide, its title a heading; notes follow the slide. Hidden slides are left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from affinage.documents.blocks import Block
from affinage.documents.extraction.decoding import lines, one_line
from affinage.documents.extraction.dispatch import Extraction
from affinage.documents.extraction.html import table
from affinage.documents.extraction.progress import step
from affinage.documents.extraction.trees import RELATION, Package, descendants, local, named

_MAIN = "ppt/presentation.xml"
_FURNITURE = ("dt", "ftr", "sldNum", "hdr", "sldImg")
_TITLES = {"ctrTitle": 1, "title": 2}
# Placeholder to the level of the heading in it: the first is that of a title page.
_LISTS = ("body", "obj")


def read(data: bytes, *, path: str) -> Extraction:
    """Blocks of a presentation, each with its slide; the title of its properties."""
    package = Package(data, path=path, kind="presentation", suffix=".pptx")
    if _MAIN not in package:
        raise package.damaged("it holds no presentation")
    try:
        return Extraction(tuple(_slides(package)), one_line(package.title("docProps/core.xml")))
    except (RecursionError, ValueError) as error:
        raise package.damaged(type(error).__name__) from error


def _slides(package: Package) -> Iterator[Block]:
    parts = package.relations(_MAIN)
    for number, listed in enumerate(descendants(package.tree(_MAIN), "sldId"), start=1):
        part = parts.get(listed.get(RELATION, ""), "")
        slide = package.tree(part) if part in package else None
        if slide is None or slide.get("show", "1") in ("0", "false"):
            continue
        blocks = list(_shapes(slide))
        for related in package.relations(part).values():
            if "notesSlide" in related and related in package:
                blocks += _shapes(package.tree(related), notes=True)
        yield from (replace(block, page=number) for block in blocks)
        step()


def _shapes(slide: Any, *, notes: bool = False) -> Iterator[Block]:
    """Blocks of all shapes, in the order they lie on one another; titles first, wherever they lie."""
    tree = next(descendants(slide, "spTree"), None)
    if tree is None:
        return
    shapes = list(_flat(tree))
    for shape in sorted(shapes, key=lambda one: _placeholder(one) not in _TITLES):
        yield from _frame(shape) if local(shape) == "graphicFrame" else _texts(shape, notes=notes)


def _flat(group: Any) -> Iterator[Any]:
    for shape in group.iterchildren():
        name = local(shape)
        if name in ("sp", "graphicFrame"):
            yield shape
        elif name in ("grpSp", "Choice"):
            yield from _flat(shape)
        elif name == "AlternateContent":
            # The same content twice, for newer and for older programs.
            yield from _flat(next(shape.iterchildren(), shape))


def _placeholder(shape: Any) -> str | None:
    """The kind of placeholder; None for a text box."""
    found = next((mark for top in named(shape, "nvSpPr") for mark in descendants(top, "ph")), None)
    return None if found is None else str(found.get("type", "obj"))


def _texts(shape: Any, *, notes: bool) -> Iterator[Block]:
    placeholder = _placeholder(shape)
    if placeholder in _FURNITURE:
        return
    for body in named(shape, "txBody"):
        if placeholder in _TITLES:
            text = one_line(" ".join(_paragraph(paragraph) for paragraph in named(body, "p")))
            if text:
                yield Block("heading", text, level=_TITLES[placeholder])
            continue
        for paragraph in named(body, "p"):
            text = lines(_paragraph(paragraph))
            if text:
                yield Block("list_item" if _is_item(paragraph, in_list=placeholder in _LISTS and not notes) else "paragraph", text)


def _is_item(paragraph: Any, *, in_list: bool) -> bool:
    for properties in named(paragraph, "pPr"):
        marks = {local(child) for child in properties.iterchildren()}
        if "buNone" in marks:
            return False
        if marks & {"buChar", "buAutoNum", "buBlip"}:
            return True
    return in_list


def _paragraph(paragraph: Any) -> str:
    parts = []
    for child in paragraph.iterchildren():
        name = local(child)
        if name in ("r", "fld"):
            parts += [text.text or "" for text in named(child, "t")]
        elif name == "br":
            parts.append("\n")
    return "".join(parts)


def _frame(frame: Any) -> Iterator[Block]:
    for found in descendants(frame, "tbl"):
        rows = [[one_line(" ".join(map(_paragraph, descendants(cell, "p")))) for cell in named(row, "tc")] for row in named(found, "tr")]
        block = table(rows)
        if block is not None:
            yield block
