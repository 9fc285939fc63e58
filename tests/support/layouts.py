"""PDFs whose structure is known: nested headings, two columns, bullets, ruled tables, running furniture, hyphenated words."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass, field
from typing import Any

TEXT = (
    "le service instruit la demande dans un délai de deux mois après réception du dossier complet et informe l'usager par courrier motivé "
    "des pièces manquantes que celui-ci peut déposer au guichet ou transmettre en ligne avant la date limite fixée par arrêté municipal"
)
WORDS = TEXT.split()
LONG_WORDS = ("administration", "réglementation", "communication", "organisation", "responsabilité", "établissement", "consultation")
HEADER, FOOTER = "Communauté de communes — recueil des procédures", "Page {page}"
SIZES = {1: 18, 2: 14, 3: 12}
# Points of headings by level; the text has 10.


@dataclass
class Known:
    """What the document holds, in reading order: (kind, level, text, page), cells of tables apart."""

    data: bytes = b""
    pages: int = 0
    headings: list[tuple[int, str, int]] = field(default_factory=list)
    items: list[tuple[str, int]] = field(default_factory=list)
    paragraphs: list[tuple[str, int]] = field(default_factory=list)
    tables: list[tuple[list[list[str]], int]] = field(default_factory=list)


def make_known_pdf(*, sections: int, columns: int = 1, seed: int = 1) -> Known:
    """A document of `sections` headings with text below each, in one or two columns."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import BaseDocTemplate, Frame, ListFlowable, ListItem, PageTemplate, Paragraph, Table, TableStyle

    rng = random.Random(seed)
    known = Known()
    body = ParagraphStyle("body", fontName="Helvetica", fontSize=10, leading=13, spaceAfter=8)
    heads = {
        level: ParagraphStyle(f"h{level}", fontName="Helvetica-Bold", fontSize=size, leading=size * 1.25, spaceBefore=8, spaceAfter=6,
                              keepWithNext=1)
        for level, size in SIZES.items()
    }  # fmt: skip

    class Noted(Paragraph):
        """A paragraph that notes the page it begins on."""

        def __init__(self, text: str, style: Any, note: Any) -> None:
            super().__init__(text, style)
            self._note = note

        def draw(self) -> None:
            self._note(self.canv.getPageNumber())
            super().draw()

    def text(low: int, high: int, *, long: float = 0.2) -> str:
        words = [rng.choice(LONG_WORDS) if rng.random() < long else rng.choice(WORDS) for _ in range(rng.randint(low, high))]
        return " ".join(words).capitalize() + "."

    class NotedTable(Table):
        """A table that notes the page it stands on."""

        def noting(self, note: Any) -> NotedTable:
            self._noting = note
            return self

        def draw(self) -> None:
            self._noting(self.canv.getPageNumber())
            super().draw()

    story: list[Any] = []
    width = (A4[0] - 120) / columns - (0 if columns == 1 else 12)
    level = 1
    for number in range(1, sections + 1):
        level = 1 if number == 1 else rng.choice([1, 2, 3]) if level > 1 else rng.choice([2, 2, 3, 1])
        head = f"{number}. {text(2, 4)[:-1]}"
        story.append(Noted(head, heads[level], lambda page, level=level, head=head: known.headings.append((level, head, page))))
        for _ in range(rng.randint(1, 2)):
            words = text(25, 60)
            # Not split over pages, so that the page it begins on is the only one.
            story.append(_kept(Noted(words, body, lambda page, words=words: known.paragraphs.append((words, page)))))
        for _ in range(rng.choice([0, 2, 3])):
            words = text(4, 18)
            item = Noted(words, body, lambda page, words=words: known.items.append((words, page)))
            story.append(_kept(ListFlowable([ListItem(item)], bulletType="bullet", bulletFontSize=8)))
        if number % 3 == 0:
            # No word is wider than its cell: reportlab would break it without a hyphen.
            delays = ["", "12 jours", "3 mois"]
            rows = [
                ["Poste", "Service", "Délai"],
                *([text(1, 3, long=0), text(3, 9, long=0), rng.choice(delays)] for _ in range(4)),
            ]
            shown = [[Paragraph(cell, body) for cell in row] for row in rows]
            table = NotedTable(shown, colWidths=[width * 0.3, width * 0.45, width * 0.25])
            table.setStyle(TableStyle([("GRID", (0, 0), (-1, -1), 0.5, (0, 0, 0)), ("VALIGN", (0, 0), (-1, -1), "TOP")]))
            story.append(_kept(table.noting(lambda page, rows=rows: known.tables.append((rows, page)))))

    def furniture(canvas: Any, document: Any) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.drawString(60, A4[1] - 36, HEADER)
        canvas.drawCentredString(A4[0] / 2, 28, FOOTER.format(page=document.page))
        known.pages = document.page

    out = io.BytesIO()
    document = BaseDocTemplate(out, pagesize=A4, invariant=1)
    gap = 0 if columns == 1 else 24
    frames = [Frame(60 + column * (width + gap), 60, width, A4[1] - 120, 0, 0, 0, 0) for column in range(columns)]
    document.addPageTemplates(PageTemplate("page", frames, onPage=furniture))
    document.build(story)
    known.data = out.getvalue()
    return known


def _kept(flowable: Any) -> Any:
    from reportlab.platypus import KeepTogether

    return KeepTogether([flowable])
