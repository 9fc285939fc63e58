"""Word documents (DOCX), opened by python-docx and walked in document order.

The walk goes over the XML itself: python-docx leaves out text inside content controls, tracked insertions and text boxes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from affinage.documents.blocks import Block
from affinage.documents.extraction.decoding import lines, one_line
from affinage.documents.extraction.dispatch import Extraction
from affinage.documents.extraction.html import table
from affinage.documents.extraction.trees import Package

if TYPE_CHECKING:
    from docx.document import Document

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_HEADING = re.compile(r"(?:heading|titre) ([1-9])$")
_LISTS = re.compile(r"(?:list|liste)\b")
_MAX_STYLE_CHAIN = 20


def read(data: bytes, *, path: str) -> Extraction:
    """Blocks of a Word document; the title of its properties."""
    package = Package(data, path=path, kind="Word document", suffix=".docx")
    document = _open(data, package)
    try:
        blocks = tuple(_Walk(document).blocks(document.element.body))
        return Extraction(blocks, one_line(document.core_properties.title or ""))
    except (RecursionError, AttributeError, KeyError, ValueError) as error:
        # Parts that are valid XML and yet not what Word writes.
        raise package.damaged(type(error).__name__) from error


def _open(data: bytes, package: Package) -> Document:
    try:
        from docx import Document as open_document  # noqa: N813, PLC0415 - heavy

        return open_document(io.BytesIO(data))
    except Exception as error:
        raise package.damaged(type(error).__name__) from error


class _Walk:
    """One pass over the body."""

    def __init__(self, document: Document) -> None:
        self._styles = {style.element.styleId: style.element for style in document.styles if style.element.styleId}
        self._roles: dict[str, tuple[int | None, bool]] = {}

    def blocks(self, container: Any) -> Iterator[Block]:
        """Blocks of paragraphs and tables below `container`, in order; content controls are looked through."""
        for element in container.iterchildren():
            if element.tag == f"{W}p":
                yield from self._paragraph(element)
            elif element.tag == f"{W}tbl":
                block = table([[self._cell(cell) for cell in _below(row, "tc")] for row in _below(element, "tr")])
                if block is not None:
                    yield block
            elif element.tag in (f"{W}sdt", f"{W}sdtContent", f"{W}ins", f"{W}smartTag", f"{W}customXml"):
                yield from self.blocks(element)

    def _paragraph(self, element: Any) -> Iterator[Block]:
        boxes: list[Any] = []
        text = lines("".join(_text(element, boxes)))
        if text:
            level, in_list = self._role(element)
            if level is not None:
                yield Block("heading", one_line(text), level=min(level, 6))
            else:
                yield Block("list_item" if in_list else "paragraph", text)
        for box in boxes:
            yield from self.blocks(box)

    def _cell(self, cell: Any) -> str:
        merge = cell.find(f"{W}tcPr/{W}vMerge")
        if merge is not None and merge.get(f"{W}val", "continue") == "continue":
            return ""
        return one_line(" ".join(block.text for block in self.blocks(cell)))

    def _role(self, paragraph: Any) -> tuple[int | None, bool]:
        """Heading level, or None; and whether the paragraph is in a list."""
        properties = paragraph.find(f"{W}pPr")
        style = properties.find(f"{W}pStyle") if properties is not None else None
        level, in_list = self._role_of_style(style.get(f"{W}val", "")) if style is not None else (None, False)
        own_level, own_list = _direct_role(properties)
        return (level if own_level is None else own_level), (in_list if own_list is None else own_list)

    def _role_of_style(self, style_id: str) -> tuple[int | None, bool]:
        if style_id not in self._roles:
            self._roles[style_id] = self._resolve(style_id)
        return self._roles[style_id]

    def _resolve(self, style_id: str) -> tuple[int | None, bool]:
        """Walk up the styles it is based on, to the first that tells."""
        level: int | None = None
        in_list: bool | None = None
        for _ in range(_MAX_STYLE_CHAIN):
            style = self._styles.get(style_id)
            if style is None:
                break
            name = (style.name_val or "").lower()
            named = _HEADING.match(name)
            own_level, own_list = _direct_role(style.find(f"{W}pPr"))
            if level is None:
                level = int(named.group(1)) if named else 1 if name in ("title", "titre") else own_level
            if in_list is None:
                in_list = True if _LISTS.match(name) else own_list
            based_on = style.find(f"{W}basedOn")
            style_id = based_on.get(f"{W}val", "") if based_on is not None else ""
        return level, bool(in_list)


def _direct_role(properties: Any) -> tuple[int | None, bool | None]:
    """Outline level and list membership that a `pPr` itself states."""
    if properties is None:
        return None, None
    outline = properties.find(f"{W}outlineLvl")
    value = outline.get(f"{W}val", "9") if outline is not None else "9"
    number = properties.find(f"{W}numPr/{W}numId")
    return (int(value) + 1 if value.isdigit() and int(value) < 9 else None), (number.get(f"{W}val") != "0" if number is not None else None)


def _below(element: Any, name: str) -> Iterator[Any]:
    """Rows of a table or cells of a row, also inside content controls; not those of nested tables."""
    for child in element.iterchildren():
        if child.tag == f"{W}{name}":
            yield child
        elif child.tag in (f"{W}sdt", f"{W}sdtContent", f"{W}ins", f"{W}customXml"):
            yield from _below(child, name)


def _text(element: Any, boxes: list[Any]) -> Iterator[str]:
    """Visible text of a paragraph; text boxes met on the way are put into `boxes`, to follow it."""
    for child in element.iterchildren():
        tag = child.tag
        if tag == f"{W}t":
            yield child.text or ""
        elif tag in (f"{W}tab", f"{W}ptab"):
            yield " "
        elif tag == f"{W}br":
            yield "\n" if child.get(f"{W}type", "textWrapping") == "textWrapping" else " "
        elif tag == f"{W}cr":
            yield "\n"
        elif tag == f"{W}noBreakHyphen":
            yield "-"
        elif tag == f"{W}txbxContent":
            boxes.append(child)
        elif tag == f"{W}r" and _is_hidden(child):
            continue
        elif tag not in (f"{W}del", f"{W}moveFrom", f"{W}pPr", f"{W}rPr", FALLBACK):
            yield from _text(child, boxes)


def _is_hidden(run: Any) -> bool:
    vanish = run.find(f"{W}rPr/{W}vanish")
    return vanish is not None and vanish.get(f"{W}val", "1") not in ("0", "false", "off")
