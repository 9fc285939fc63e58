"""PDF, read by pypdfium2: the lines of each page with their place and font, of which `layout.py` makes blocks.

A page without a text layer is handed to `scans.py`, where Tesseract is installed; otherwise the document fails, with what to
install: a part of it must not be lost in silence.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from affinage.documents.extraction import drawn, tesseract
from affinage.documents.extraction.decoding import clean, one_line
from affinage.documents.extraction.dispatch import Extraction
from affinage.documents.extraction.layout import HYPHEN, Cell, Line, blocks_of, joined
from affinage.documents.extraction.limits import MAX_CHARACTERS, MAX_PAGES
from affinage.documents.extraction.progress import step
from affinage.documents.extraction.rulings import Grid, grids, with_tables
from affinage.errors import DocumentError

_PDFIUM = threading.Lock()
# PDFium is not thread-safe, not even across documents.
_LINE_HYPHENS = ("\ufffe", "\x02")
# What PDFium gives for a hyphen at which it saw a word go on in the next line.
_LINE = re.compile("[^\n\r\ufffe\x02]+[\ufffe\x02]?")
_WORD = re.compile(r"[^\s\0]+")
_CELL_GAP = 1.0
# Times the font size: more than justified text usually leaves between words.
_BOLD_WEIGHT = 600
_SAMPLED_WORDS = 3
# The first ones of a line, and one in so many of the others, are asked for their font.
_FEW_CHARACTERS = 40
# On a page of pictures: a stamp or a page number that a program added to a scan.
_PICTURE_SHARE = 0.5
_LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
_REPLACED = str.maketrans({**_LIGATURES, "\uf0b7": "•", **dict.fromkeys(_LINE_HYPHENS, HYPHEN)})
_JUNK_TITLES = ("untitled", "(anonymous)", "anonymous", "microsoft word", "document", "sans titre", "(unspecified)", "powerpoint")


def read(data: bytes, *, path: str) -> Extraction:
    """Blocks of a PDF, each with its page; the title of its properties; the pages whose text was recognised.

    Raises
    ------
    DocumentError
        `password`, `damaged`, `too_large`; `no_text` when no page has text; `no_ocr` when a page is a scan and there is no Tesseract.
    """
    recognised: list[int] = []
    with _PDFIUM, _opened(data, path) as document:
        if len(document) > MAX_PAGES:
            raise DocumentError(path, "too_large", f"{path} has {len(document)} pages, more than {MAX_PAGES}.", hint="Split it.")
        pages = list(_pages(document, path, recognised))
        title = _title(document)
    blocks = blocks_of(pages)
    if not blocks:
        message = f"{path} has {len(pages)} pages and no text: they are empty, or pictures."
        raise DocumentError(path, "no_text", message, hint="Remove it, or scan it anew, sharper.")
    return Extraction(tuple(blocks), title, tuple(recognised))


@contextmanager
def _opened(data: bytes, path: str) -> Iterator[Any]:
    import pypdfium2  # noqa: PLC0415 - heavy

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == pypdfium2.raw.FPDF_ERR_PASSWORD or "password" in str(error).lower():
            hint = "Save a copy without password in the source."
            raise DocumentError(path, "password", f"{path} is protected by a password.", hint=hint) from error
        raise _damaged(path) from error
    try:
        yield document
    except pypdfium2.PdfiumError as error:
        raise _damaged(path) from error
    finally:
        document.close()


def _damaged(path: str) -> DocumentError:
    return DocumentError(path, "damaged", f"{path} is not a readable PDF.", hint="Open it in a viewer and save it anew.")


def _title(document: Any) -> str:
    title = one_line(clean(document.get_metadata_value("Title") or ""))
    return "" if title.lower().startswith(_JUNK_TITLES) else title


def _pages(document: Any, path: str, recognised: list[int]) -> Iterator[list[Line]]:
    characters = 0
    for number in range(len(document)):
        page = document[number]
        text_page = page.get_textpage()
        try:
            characters += text_page.count_chars()
            if characters > MAX_CHARACTERS:
                raise DocumentError(path, "too_large", f"{path} has more than {MAX_CHARACTERS} characters.", hint="Split it.")
            found = grids(*drawn.rulings(page))
            lines = list(_PageReader(text_page, number + 1, page.get_height(), found).lines())
            lines = with_tables(lines, found, joined=joined) if found else lines
            if sum(len(line.text) for line in lines) < _FEW_CHARACTERS and _is_picture(page):
                seen = _recognised(page, number + 1, path)
                if seen:
                    recognised.append(number + 1)
                lines = seen or lines
            yield lines
        finally:
            text_page.close()
            page.close()
            step()


def _is_picture(page: Any) -> bool:
    """Whether pictures cover most of the page."""
    from pypdfium2 import raw  # noqa: PLC0415

    width, height = page.get_size()
    covered = 0.0
    for found in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=4):
        left, bottom, right, top = found.get_bounds()
        covered += max(0.0, min(right, width) - max(left, 0.0)) * max(0.0, min(top, height) - max(bottom, 0.0))
    return bool(covered > _PICTURE_SHARE * width * height)


def _recognised(page: Any, number: int, path: str) -> list[Line]:
    if not tesseract.languages():
        message = f"Page {number} of {path} is a scan, and no text recognition is installed here."
        hint = f"Install Tesseract (Debian: apt-get install {tesseract.PACKAGES}), or store the document with a text layer."
        raise DocumentError(path, "no_ocr", message, hint=hint)
    from affinage.documents.extraction import scans  # noqa: PLC0415 - few documents need it

    return scans.lines_of(page, number, path=path)


class _PageReader:
    """Reads one page character by character, in the order of its content stream."""

    def __init__(self, text_page: Any, number: int, height: float, found: Sequence[Grid] = ()) -> None:
        from pypdfium2 import raw  # noqa: PLC0415

        self._raw, self._page, self._number, self._height, self._grids = raw, text_page, number, height, found
        self._left, self._right, self._bottom, self._top, self._x, self._y = (ctypes.c_double() for _ in range(6))
        self._matrix = raw.FS_MATRIX()
        self._font, self._flags = ctypes.create_string_buffer(128), ctypes.c_int()

    def lines(self) -> Iterator[Line]:
        """Lines as PDFium sees them: it ends one where the baseline changes."""
        # One character for each of PDFium's, so that places in the text are its indices.
        text = "".join(chr(self._raw.FPDFText_GetUnicode(self._page, index)) for index in range(self._page.count_chars()))
        for match in _LINE.finditer(text):
            line = self._line(text, *match.span())
            if line is not None:
                yield line

    def _line(self, text: str, first: int, last: int) -> Line | None:
        cells: list[Cell] = []
        pending: list[str] = []
        sizes: list[float] = []
        bold = words = 0
        left = baseline = size = 0.0
        before = first  # the last visible character
        for match in _WORD.finditer(text, first, last):
            word, index = match.group(), match.start()
            # Only where words begin and end is the place looked up: one call for each character would take half of the time.
            if word not in _LINE_HYPHENS:
                if words <= _SAMPLED_WORDS or words % _SAMPLED_WORDS == 0:
                    size, is_bold = self._look(index)
                    sizes.append(size)
                    bold += is_bold
                begin = self._box(index)[0]
                if not words:
                    left = begin
                    self._raw.FPDFText_GetCharOrigin(self._page, index, self._x, self._y)
                    baseline = self._y.value
                else:
                    end = self._box(before)[1]
                    if begin - end > _CELL_GAP * max(size, 1.0) or self._is_parted(end, begin, baseline):
                        cells.append(Cell(left, end, _joined(pending)))
                        pending, left = [], begin
                words += 1
                before = match.end() - 1 - (word[-1] in _LINE_HYPHENS)
            pending.append(word)
        if not words:
            return None
        cells.append(Cell(left, self._box(before)[1], _joined(pending)))
        return Line(
            page=self._number, cells=tuple(cells), baseline=baseline, height=self._height,
            size=round(2 * sorted(sizes)[len(sizes) // 2]) / 2, bold=2 * bold > len(sizes),
        )  # fmt: skip

    def _box(self, index: int) -> tuple[float, float]:
        """Where a character begins and ends."""
        self._raw.FPDFText_GetCharBox(self._page, index, self._left, self._right, self._bottom, self._top)
        return self._left.value, self._right.value

    def _is_parted(self, left: float, right: float, y: float) -> bool:
        return any(grid.holds(left, y) and grid.parts(left, right, y) for grid in self._grids)

    def _look(self, index: int) -> tuple[float, bool]:
        """Font size as drawn, and whether the font is bold."""
        self._raw.FPDFText_GetMatrix(self._page, index, self._matrix)
        scale = (self._matrix.c**2 + self._matrix.d**2) ** 0.5 or 1.0
        size = self._raw.FPDFText_GetFontSize(self._page, index) * scale
        self._raw.FPDFText_GetFontInfo(self._page, index, self._font, len(self._font), self._flags)
        name = self._font.value.lower()
        heavy = self._raw.FPDFText_GetFontWeight(self._page, index) >= _BOLD_WEIGHT
        return size, heavy or b"bold" in name or b"black" in name or b"heavy" in name


def _joined(words: list[str]) -> str:
    # Characters beyond the first plane come as two halves.
    text = " ".join(words).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return one_line(clean(text.translate(_REPLACED)))
