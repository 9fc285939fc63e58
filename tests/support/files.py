"""Documents made for a test: PDF by reportlab, DOCX by python-docx."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from xml.sax.saxutils import escape

Part = str | tuple[str, object]
"""A paragraph's text, or `(kind, content)`: title, h1, h2, bullet, number with text; table with rows; page with None."""


def make_pdf(
    parts: Sequence[Part],
    *,
    title: str = "",
    header: str = "",
    footer: str = "",
    password: str | None = None,
) -> bytes:
    """A PDF with a text layer. In `header` and `footer`, `{page}` is the page's number."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import ListFlowable, ListItem, PageBreak, Paragraph, SimpleDocTemplate, Table

    styles = getSampleStyleSheet()
    names = {"title": "Title", "h1": "Heading1", "h2": "Heading2", "h3": "Heading3"}
    story = []
    for part in parts:
        kind, content = ("text", part) if isinstance(part, str) else part
        if kind == "page":
            story.append(PageBreak())
        elif kind == "table":
            story.append(Table([[str(cell) for cell in row] for row in content]))
        elif kind in ("bullet", "number"):
            item = ListItem(Paragraph(escape(str(content)), styles["BodyText"]))
            story.append(ListFlowable([item], bulletType="bullet" if kind == "bullet" else "1"))
        else:
            story.append(Paragraph(escape(str(content)), styles[names.get(kind, "BodyText")]))

    def furniture(canvas, document) -> None:
        canvas.setFont("Helvetica", 9)
        if header:
            canvas.drawString(72, A4[1] - 40, header.format(page=document.page))
        if footer:
            canvas.drawString(72, 30, footer.format(page=document.page))

    out = io.BytesIO()
    encrypt = StandardEncryption(password, ownerPassword="owner") if password is not None else None
    document = SimpleDocTemplate(out, pagesize=A4, title=title or None, encrypt=encrypt, invariant=1)
    document.build(story, onFirstPage=furniture, onLaterPages=furniture)
    return out.getvalue()


def make_lines_pdf(pages: Sequence[Sequence[tuple[float, float, str]]], *, size: float = 10, font: str = "Helvetica") -> bytes:
    """A PDF whose pages hold lines drawn at `(x, y)` points from the lower left corner, in this order."""
    from reportlab.lib.pagesizes import A4
    from reportlab.pdfgen.canvas import Canvas

    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1)
    for page in pages:
        canvas.setFont(font, size)
        for x, y, text in page:
            canvas.drawString(x, y, text)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def make_image_pdf(pages: int = 1) -> bytes:
    """A scan: pages that hold an image and no text."""
    from PIL import Image
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1)
    for _ in range(pages):
        canvas.drawImage(ImageReader(Image.new("L", (60, 80), 230)), 0, 0, *A4)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def make_encrypted_pdf(password: str = "secret") -> bytes:
    """A PDF that only opens with a password."""
    return make_pdf(["Texte protégé."], password=password)


def make_docx(parts: Sequence[Part], *, title: str = "") -> bytes:
    """A Word document of the same parts as `make_pdf`."""
    import docx

    document = docx.Document()
    document.core_properties.title = title
    for part in parts:
        kind, content = ("text", part) if isinstance(part, str) else part
        if kind == "page":
            document.add_page_break()
        elif kind == "table":
            rows = [[str(cell) for cell in row] for row in content]
            table = document.add_table(len(rows), len(rows[0]))
            for number, row in enumerate(rows):
                for column, cell in enumerate(row):
                    table.cell(number, column).text = cell
        elif kind in ("bullet", "number"):
            document.add_paragraph(str(content), style="List Bullet" if kind == "bullet" else "List Number")
        elif kind == "title" or (kind.startswith("h") and kind[1:].isdigit()):
            document.add_heading(str(content), level=0 if kind == "title" else int(kind[1:]))
        else:
            document.add_paragraph(str(content))
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def make_encrypted_docx() -> bytes:
    """The first bytes of what Word writes with a password: an OLE container that names its encrypted stream."""
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + "EncryptedPackage".encode("utf-16-le") + bytes(512)


def make_zip_bomb_docx(unpacked_bytes: int) -> bytes:
    """A Word document whose main part unpacks to `unpacked_bytes` of spaces."""
    source = zipfile.ZipFile(io.BytesIO(make_docx(["x"])))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for item in source.infolist():
            if item.filename != "word/document.xml":
                target.writestr(item, source.read(item))
        with target.open("word/document.xml", "w", force_zip64=True) as part:
            piece = b" " * (1 << 20)
            for _ in range(unpacked_bytes >> 20):
                part.write(piece)
    return out.getvalue()
