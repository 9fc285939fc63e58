"""Documents as Markdown, HTML and plain text: the same bytes on every machine."""

from __future__ import annotations

from html import escape

from affinage.demo.corpus.reading import DemoBlock, DemoDocument


def markdown(document: DemoDocument) -> bytes:
    """ATX headings, dashes, pipe tables."""
    return _joined([f"# {document.title}", *(_markdown_block(block) for block in document.blocks)], document)


def html(document: DemoDocument) -> bytes:
    """A page with navigation and a footer around the content, as a portal would publish it."""
    home = "Accueil" if document.language == "fr" else "Home"
    body = "\n".join(_html_block(block) for block in document.blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="{document.language}">\n<head><meta charset="utf-8"><title>{escape(document.title)}</title></head>\n'
        f'<body>\n<nav><a href="/">{home}</a></nav>\n<main>\n<h1>{escape(document.title)}</h1>\n{body}\n</main>\n'
        f"<footer>Val d'Orme</footer>\n</body>\n</html>\n"
    ).encode()


def text(document: DemoDocument) -> bytes:
    """Blocks between empty lines. One folder is Windows-1252, as old files are."""
    parts = [document.title]
    for block in document.blocks:
        if block.kind == "table":
            parts.append("\n".join("\t".join(row) for row in block.rows))
        else:
            parts.append(f"- {block.text}" if block.kind == "item" else block.text)
    return _joined(parts, document, encoding="cp1252" if "/archives/" in document.path else "utf-8")


def _joined(parts: list[str], document: DemoDocument, *, encoding: str = "utf-8") -> bytes:
    # Consecutive list items form one list: an empty line between them would make each a paragraph of its own.
    out = parts[0]
    kinds = ["title", *(block.kind for block in document.blocks)]
    for before, kind, part in zip(kinds, kinds[1:], parts[1:], strict=False):
        out += ("\n" if before == kind == "item" else "\n\n") + part
    return (out + "\n").encode(encoding)


def _markdown_block(block: DemoBlock) -> str:
    if block.kind == "table":
        lines = ["| " + " | ".join(row) + " |" for row in block.rows]
        return "\n".join([lines[0], "|" + " --- |" * len(block.rows[0]), *lines[1:]])
    return {"heading": "## ", "item": "- ", "paragraph": ""}[block.kind] + block.text


def _html_block(block: DemoBlock) -> str:
    if block.kind == "table":
        rows = ["".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) for tag, row in _tagged(block)]
        return "<table>\n" + "\n".join(f"<tr>{row}</tr>" for row in rows) + "\n</table>"
    if block.kind == "item":
        return f"<ul><li>{escape(block.text)}</li></ul>"
    tag = "h2" if block.kind == "heading" else "p"
    return f"<{tag}>{escape(block.text)}</{tag}>"


def _tagged(block: DemoBlock) -> list[tuple[str, tuple[str, ...]]]:
    return [("td" if number else "th", row) for number, row in enumerate(block.rows)]
