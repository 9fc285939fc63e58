"""Documents as digital PDF: larger fonts for headings, small pages with their number, so that citations have pages."""

from __future__ import annotations

import io
from html import escape
from typing import Any

from affinage.demo.corpus.reading import DemoDocument

_FONT_POINTS = {"Title": 18.0, "Heading2": 14.0, "BodyText": 11.0}


def pdf(document: DemoDocument) -> bytes:
    """A5 pages; a paragraph never breaks across two, so that each sentence lies on one page."""
    from reportlab.lib.pagesizes import A5  # noqa: PLC0415 - heavy
    from reportlab.lib.styles import getSampleStyleSheet  # noqa: PLC0415
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Table  # noqa: PLC0415

    styles = getSampleStyleSheet()
    for name, points in _FONT_POINTS.items():
        styles[name].fontSize, styles[name].leading = points, points * 1.25
    story: list[Any] = [Paragraph(escape(document.title, quote=False), styles["Title"])]
    for block in document.blocks:
        if block.kind == "table":
            story.append(Table([list(row) for row in block.rows], style=[("GRID", (0, 0), (-1, -1), 0.5, "black")]))
            continue
        style = styles["Heading2" if block.kind == "heading" else "BodyText"]
        story.append(Paragraph(escape(block.text, quote=False), style, bulletText="•" if block.kind == "item" else None))
    written = io.BytesIO()
    # `invariant` leaves out the date and the random identifier; a paragraph that does not fit moves to the next page.
    template = SimpleDocTemplate(written, pagesize=A5, title=document.title, author="Val d'Orme", invariant=1, allowSplitting=0)
    template.build(story, onFirstPage=_footer, onLaterPages=_footer)
    return written.getvalue()


def _footer(canvas: Any, template: Any) -> None:
    canvas.saveState()
    canvas.setFont("Helvetica", 8)
    canvas.drawCentredString(template.pagesize[0] / 2, 24, f"- {canvas.getPageNumber()} -")
    canvas.restoreState()
