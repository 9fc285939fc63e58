"""Scanned pages of a known text: printed by reportlab, rendered at 200 dpi, turned, greyed and speckled, and stored as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

DPI = 200
FRENCH = [
    (
        "La demande de congé se dépose quinze jours avant la date prévue, auprès du service des ressources humaines ; au-delà de dix "
        "jours, l'accord écrit du chef de service est nécessaire (art. L. 121-3 du code)."
    ),
    (
        "Un repas non annulé quarante-huit heures à l'avance est facturé 4,85 € à la famille, même si l'élève était absent. Les enfants "
        "dont le frère ou la sœur mange déjà à la cantine bénéficient d'une remise de 12 % dès le deuxième enfant."
    ),
    (
        "Chaque année, le conseil fixe les tarifs de la piscine où l'accès reste gratuit pour les moins de six ans. Où qu'il habite, "
        "l'usager présente sa carte ; à défaut, il règle 3 euros et reçoit un ticket numéroté."
    ),
]
ENGLISH = [
    (
        "A parking permit is valid for two years and costs 40 euros a year for residents. Renew it online before it ends, or at the "
        "counter of the town hall between 9 a.m. and 5 p.m. on working days."
    ),
    (
        "The form asks for a proof of address no older than three months, a copy of the registration document and the number of the "
        "previous permit, for example 2024-00317. Incomplete requests are sent back within eight days."
    ),
    (
        "Visitors pay by the hour: the first thirty minutes are free, then 1.20 euros for each hour begun, with a limit of four hours "
        "in the centre. Disabled drivers with a badge park free of charge everywhere."
    ),
]


def printed(title: str, paragraphs: Sequence[str]) -> bytes:
    """A digital A4 page, in a font that has French accents."""
    import reportlab
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont
    from reportlab.platypus import Paragraph, SimpleDocTemplate

    pdfmetrics.registerFont(TTFont("Vera", str(Path(reportlab.__file__).parent / "fonts" / "Vera.ttf")))
    body = ParagraphStyle("body", fontName="Vera", fontSize=11, leading=15, spaceAfter=12)
    head = ParagraphStyle("head", fontName="Vera", fontSize=20, leading=26, spaceAfter=18)
    out = io.BytesIO()
    SimpleDocTemplate(out, pagesize=A4, invariant=1).build([Paragraph(title, head), *(Paragraph(text, body) for text in paragraphs)])
    return out.getvalue()


def picture_of(pdf: bytes, *, degrees: float = 0.0, seed: int = 1) -> Any:
    """The first page as a scanner gives it: grey paper, noise, specks, and turned by `degrees`."""
    import pypdfium2
    from PIL import Image

    document = pypdfium2.PdfDocument(pdf)
    page = document[0].render(scale=DPI / 72, grayscale=True).to_pil().convert("L")
    document.close()
    turned = page.rotate(degrees, resample=Image.Resampling.BICUBIC, fillcolor=255)
    rng = np.random.default_rng(seed)
    pixels = np.asarray(turned, dtype=np.float32) * (225 / 255) + 15 + rng.normal(0, 8, (turned.height, turned.width))
    pixels[rng.random(pixels.shape) < 0.0005] = 40
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def scanned(pictures: Sequence[Any]) -> bytes:
    """A PDF of pictures."""
    out = io.BytesIO()
    pictures[0].save(out, format="PDF", resolution=DPI, save_all=True, append_images=list(pictures[1:]))
    return out.getvalue()


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's: insertions, deletions and replacements from `a` to `b`."""
    before = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
        before = row
    return before[-1]
