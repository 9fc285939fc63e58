"""XML: which element is which block is declared with the source, and guessed from usual names where it is not.

No entity is replaced, and nothing outside the document is looked up (`trees.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from affinage.documents.blocks import Block
from affinage.documents.extraction.decoding import clean, lines, one_line
from affinage.documents.extraction.dispatch import Extraction
from affinage.documents.extraction.html import table
from affinage.documents.extraction.trees import local, parse
from affinage.errors import DocumentError

USUAL = {
    **dict.fromkeys(("title", "titre", "head", "heading", "label_titre", "intitule", "titre_ta"), "heading"),
    **dict.fromkeys(("p", "para", "paragraph", "simpara", "al", "alinea", "paragraphe", "verse"), "paragraph"),
    **dict.fromkeys(("li", "item", "listitem", "list-item"), "list_item"),
    **dict.fromkeys(("table", "informaltable", "tableau"), "table"),
    **dict.fromkeys(("row", "tr", "ligne"), "row"),
    **dict.fromkeys(("code", "pre", "programlisting", "screen", "literallayout"), "code"),
    **dict.fromkeys(("script", "style", "math", "object-id", "journal-id"), "skip"),
}  # fmt: skip
"""Of DocBook, JATS, TEI, DITA and French law."""


def read(data: bytes, *, path: str, mapping: Mapping[str, str] | None = None) -> Extraction:
    """Blocks of an XML document.

    Parameters
    ----------
    mapping
        Element, without its namespace, to `title` (the document's), `heading`, `paragraph`, `list_item`, `table`, `row`,
        `code` or `skip`. What it names is that and no usual name counts for it; other elements stand for what is in them.
    """
    try:
        root = parse(data)
        walk = _Walk(mapping or USUAL)
        blocks = tuple(walk.blocks(root))
    except (ValueError, RecursionError) as error:
        hint = "Correct it: a browser shows where it is wrong."
        raise DocumentError(path, "damaged", f"{path} is not well-formed XML: {error}", hint=hint) from error
    return Extraction(blocks, walk.title)


class _Walk:
    """One pass over the tree."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self._kinds = kinds
        self.title = ""

    def blocks(self, element: Any, *, level: int = 0) -> Iterator[Block]:
        """Blocks of `element`; `level` counts the elements around it that have a heading of their own."""
        kind = self._kinds.get(local(element))
        if kind == "skip" or not local(element):
            return
        if kind == "table":
            yield from self._table(element)
        elif kind == "title":
            self.title = self.title or one_line(self._text(element))
            yield from self._leaf("heading", element, level=1)
        elif kind in ("heading", "code"):
            yield from self._leaf(kind, element, level=min(max(level, 1), 6))
        elif any(self._is_block(child) for child in element.iterdescendants()) or (kind is None and _holds_fields(element)):
            yield from self._container(element, kind or "paragraph", level)
        else:
            yield from self._leaf("paragraph" if kind in (None, "row") else kind, element)

    def _container(self, element: Any, kind: str, level: int) -> Iterator[Block]:
        """Blocks inside, and the text between them. The first paragraph of a list item is the item."""
        level += any(self._kinds.get(local(child)) == "heading" for child in element.iterchildren())
        pending = [element.text or ""]
        fields = _holds_fields(element)

        def flushed() -> Iterator[Block]:
            nonlocal kind
            text = lines(clean("".join(pending)).replace("\n", " "))
            pending.clear()
            if text:
                yield Block("list_item" if kind == "list_item" else "paragraph", text)
                kind = "paragraph"

        for child in element.iterchildren():
            if self._is_block(child) or any(self._is_block(inner) for inner in child.iterdescendants()):
                yield from flushed()
                for block in self.blocks(child, level=level):
                    if kind == "list_item" and block.kind == "paragraph":
                        yield Block("list_item", block.text)
                    else:
                        yield block
                    kind = "paragraph"
            elif fields:
                yield from flushed()
                yield from self.blocks(child, level=level)
            else:
                pending.append(self._text(child))
            pending.append(child.tail or "")
        yield from flushed()

    def _is_block(self, element: Any) -> bool:
        return self._kinds.get(local(element), "skip") != "skip"

    def _leaf(self, kind: Any, element: Any, *, level: int | None = None) -> Iterator[Block]:
        text = clean(self._text(element))
        text = text.strip("\n").rstrip() if kind == "code" else one_line(text)
        if text.strip():
            yield Block(kind, text, level=level if kind == "heading" else None)

    def _table(self, element: Any) -> Iterator[Block]:
        rows = [row for row in element.iterdescendants() if self._kinds.get(local(row)) == "row"]
        found = table([[one_line(clean(self._text(cell))) for cell in row.iterchildren() if local(cell)] for row in rows])
        if found is not None:
            yield found
        elif not rows:
            yield from self._leaf("paragraph", element)

    def _text(self, element: Any) -> str:
        if self._kinds.get(local(element)) == "skip":
            return ""
        parts = [element.text or ""]
        for child in element.iterchildren():
            parts += [self._text(child) if local(child) else "", child.tail or ""]
        return "".join(parts)


def _holds_fields(element: Any) -> bool:
    """Whether its children of no known kind are fields, and not parts of a sentence: no text stands beside them."""
    if not len(element) or (element.text or "").strip():
        return False
    return not any((child.tail or "").strip() for child in element.iterchildren())
