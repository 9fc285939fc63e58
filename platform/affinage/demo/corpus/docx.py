"""Documents as Word files."""

from __future__ import annotations

import io
import zipfile
from datetime import datetime

from affinage.demo.corpus.reading import DemoDocument

_WRITTEN_AT = datetime(2026, 1, 5, 8, 0)  # noqa: DTZ001 - the format has no zone
_ZIP_TIME = (2026, 1, 5, 8, 0, 0)


def docx(document: DemoDocument) -> bytes:
    """Word headings, list bullets and tables; dates are fixed, so the bytes depend on the content only."""
    from docx import Document  # noqa: PLC0415 - heavy

    word = Document()
    properties = word.core_properties
    properties.title, properties.author, properties.language = document.title, "Val d'Orme", document.language
    properties.created = properties.modified = _WRITTEN_AT
    word.add_heading(document.title, level=1)
    for block in document.blocks:
        if block.kind == "heading":
            word.add_heading(block.text, level=2)
        elif block.kind == "item":
            word.add_paragraph(block.text, style="List Bullet")
        elif block.kind == "table":
            table = word.add_table(rows=len(block.rows), cols=len(block.rows[0]))
            for cells, row in zip(table.rows, block.rows, strict=True):
                for cell, value in zip(cells.cells, row, strict=True):
                    cell.text = value
        else:
            word.add_paragraph(block.text)
    written = io.BytesIO()
    word.save(written)
    return _with_fixed_times(written.getvalue())


def _with_fixed_times(archive: bytes) -> bytes:
    # The library stamps each part of the archive with the current time.
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name, date_time=_ZIP_TIME), old.read(name), compress_type=zipfile.ZIP_DEFLATED)
    return out.getvalue()
