"""A scanned page: an image in a PDF, with no text in it."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence

_PAGE_PIXELS = (1240, 1754)  # A4 at 150 dots per inch
_SCANNED_AT = time.struct_time((2026, 1, 5, 8, 0, 0, 0, 5, 0))


def scanned_pdf(lines: Sequence[str]) -> bytes:
    """Draw `lines` on a slightly turned, greyish page."""
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - heavy

    page = Image.new("L", _PAGE_PIXELS, color=244)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=30)
    for number, line in enumerate(lines):
        draw.text((130, 160 + 58 * number), line, fill=40, font=font)
    out = io.BytesIO()
    turned = page.rotate(0.6, fillcolor=244)
    turned.save(out, format="PDF", resolution=150, creationDate=_SCANNED_AT, modDate=_SCANNED_AT)
    return out.getvalue()
