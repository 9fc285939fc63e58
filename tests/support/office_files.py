"""Office documents made for a test, by other libraries than those that read them; OpenDocument written by hand."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any


def make_xlsx(sheets: Mapping[str, Sequence[Sequence[Any]]], *, hidden: Sequence[str] = (), title: str = "") -> bytes:
    """A workbook. A cell is a value, `(formula, value)`, or `(value, number format)` when the first is no string."""
    import xlsxwriter

    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True, "remove_timezone": True})
    book.set_properties({"title": title})
    for name, rows in sheets.items():
        sheet = book.add_worksheet(name)
        for number, row in enumerate(rows):
            for column, cell in enumerate(row):
                if isinstance(cell, tuple) and isinstance(cell[0], str):
                    sheet.write_formula(number, column, cell[0], None, cell[1])
                elif isinstance(cell, tuple):
                    value, form = cell
                    write = sheet.write_datetime if isinstance(value, datetime) else sheet.write_number
                    write(number, column, value, book.add_format({"num_format": form}))
                elif cell is not None:
                    sheet.write(number, column, cell)
        if name in hidden:
            sheet.hide()
    book.close()
    return out.getvalue()


def make_pptx(slides: Sequence[Mapping[str, Any]], *, title: str = "") -> bytes:
    """A presentation. A slide has `title`, `bullets`, `box`, `rows`, `notes`, `hidden`, each optional; the first may be `cover`."""
    import pptx
    from pptx.util import Inches

    made = pptx.Presentation()
    made.core_properties.title = title
    for given in slides:
        slide = made.slides.add_slide(made.slide_layouts[0 if given.get("cover") else 1])
        slide.shapes.title.text = given.get("title", "")
        if given.get("cover"):
            slide.placeholders[1].text = given["cover"]
        frame = None if given.get("cover") else slide.placeholders[1].text_frame
        for number, bullet in enumerate(given.get("bullets", ())):
            paragraph = frame.paragraphs[0] if number == 0 else frame.add_paragraph()
            paragraph.text = bullet
        if "box" in given:
            slide.shapes.add_textbox(Inches(1), Inches(5), Inches(4), Inches(1)).text_frame.text = given["box"]
        if "rows" in given:
            rows = given["rows"]
            table = slide.shapes.add_table(len(rows), len(rows[0]), Inches(1), Inches(2), Inches(6), Inches(2)).table
            for y, row in enumerate(rows):
                for x, cell in enumerate(row):
                    table.cell(y, x).text = cell
        if "notes" in given:
            slide.notes_slide.notes_text_frame.text = given["notes"]
        if given.get("hidden"):
            slide._element.set("show", "0")
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


_NAMESPACES = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
    'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:presentation="urn:oasis:names:tc:opendocument:xmlns:presentation:1.0" '
    'xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"'
)


def make_odf(body: str, *, kind: str = "text", styles: str = "", title: str = "", encrypted: bool = False) -> bytes:
    """An OpenDocument file with this XML below `office:text`, `office:spreadsheet` or `office:presentation`."""
    content = (
        f"<office:document-content {_NAMESPACES}><office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>"
    )
    meta = f"<office:document-meta {_NAMESPACES}><office:meta><dc:title>{title}</dc:title></office:meta></office:document-meta>"
    entry = "<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>" if encrypted else ""
    return make_zip({
        "mimetype": f"application/vnd.oasis.opendocument.{kind}",
        "content.xml": content,
        "meta.xml": meta,
        "META-INF/manifest.xml": f"<manifest:manifest {_NAMESPACES}>{entry}</manifest:manifest>",
    })  # fmt: skip


def make_zip(parts: Mapping[str, str | bytes]) -> bytes:
    """A zip file of these parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in parts.items():
            made.writestr(name, content)
    return out.getvalue()


def with_part(data: bytes, name: str, change: Any) -> bytes:
    """The zip file with one part changed by a function of its bytes."""
    source = zipfile.ZipFile(io.BytesIO(data))
    parts = {part.filename: source.read(part) for part in source.infolist()}
    return make_zip({**parts, name: change(parts.get(name, b""))})


def make_zip_bomb(data: bytes, name: str, unpacked_bytes: int) -> bytes:
    """The zip file whose part `name` unpacks to so many bytes of spaces."""
    source = zipfile.ZipFile(io.BytesIO(data))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for part in source.infolist():
            if part.filename != name:
                made.writestr(part.filename, source.read(part))
        with made.open(name, "w", force_zip64=True) as opened:
            piece = b" " * (1 << 20)
            for _ in range(unpacked_bytes >> 20):
                opened.write(piece)
    return out.getvalue()
