"""Pages without a text layer: rendered, turned level, recognised, and handed to `layout.py` as lines like those of a font."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinage.documents.extraction import tesseract
from affinage.documents.extraction.decoding import clean, one_line
from affinage.documents.extraction.layout import HYPHEN, Cell, Line
from affinage.documents.extraction.progress import step
from affinage.documents.extraction.skew import LEAST_DEGREES, angle_of, turned_back
from affinage.errors import DocumentError

DPI = 200
# What offices scan at; small print needs it, and more makes recognition slower and no better.
MAX_PIXELS = 40_000_000
# Of a page: A2 at this resolution; a larger one is rendered smaller.
LEAST_INK = 0.0005
# Of the pixels: a page with less is empty.
LEAST_CONFIDENCE = 25.0
# Of a word: below, it is a speck or a line of a drawing.
LEAST_PAGE_CONFIDENCE = 45.0
# On average: below, the page is a picture and not a text.
_LARGER = 1.45
# Times the usual height of lines: another size of font, and not only letters that reach further up and down.
_CELL_GAP = 2.0
# Times the height of a line: more than between words.


def lines_of(page: Any, number: int, *, path: str) -> list[Line]:
    """The lines of a page of pypdfium2, in reading order; none when it is empty or a picture.

    Raises
    ------
    DocumentError
        `too_slow` or `crashed`, when recognition gives nothing; retryable.
    """
    picture, dpi = _rendered(page)
    if (picture < (int(picture.min()) + int(picture.max())) / 2).mean() < LEAST_INK or picture.max() - picture.min() < 32:
        return []
    degrees = angle_of(picture)
    if abs(degrees) >= LEAST_DEGREES:
        picture = turned_back(picture, degrees)
    try:
        words = tesseract.recognise(picture, dpi=dpi)
    except tesseract.TooSlowError as error:
        message = f"Recognising page {number} of {path} took more than {tesseract.PAGE_SECONDS} s."
        raise DocumentError(path, "too_slow", message, hint="It is tried again later; or leave the page out.", retryable=True) from error
    except tesseract.RecognitionError as error:
        message = f"Recognising page {number} of {path} failed: {error}."
        raise DocumentError(path, "crashed", message, hint="It is tried again later; or scan the page anew.", retryable=True) from error
    step()
    return _lines(words, number=number, scale=72 / dpi, height=picture.shape[0] * 72 / dpi)


def _rendered(page: Any) -> tuple[NDArray[np.uint8], int]:
    width, height = page.get_size()
    dpi = DPI
    while width * height * (dpi / 72) ** 2 > MAX_PIXELS:
        dpi //= 2
    bitmap = page.render(scale=dpi / 72, grayscale=True)
    try:
        return np.array(bitmap.to_numpy(), dtype=np.uint8).reshape(bitmap.height, -1)[:, : bitmap.width], dpi
    finally:
        bitmap.close()


def _lines(words: Sequence[tesseract.Word], *, number: int, scale: float, height: float) -> list[Line]:
    kept = [word for word in words if word.confidence >= LEAST_CONFIDENCE]
    if not kept or sum(word.confidence for word in words) / len(words) < LEAST_PAGE_CONFIDENCE:
        return []
    rows = [list(row) for _, row in groupby(kept, key=lambda word: word.line)]
    usual = median(_height(row) for row in rows)
    found = []
    for row in rows:
        size = _height(row)
        size = usual if size < _LARGER * usual else size
        baseline = height - scale * median(word.top + word.height for word in row)
        cells = tuple(_cells(row, gap=_CELL_GAP * size, scale=scale))
        if cells:
            found.append(Line(page=number, cells=cells, baseline=baseline, height=height, size=round(2 * size * scale) / 2, bold=False))
    return found


def _height(row: Sequence[tesseract.Word]) -> float:
    """Of a line: the words with letters that reach up decide."""
    return max(word.height for word in row) if len(row) < 3 else sorted(word.height for word in row)[-len(row) // 4 - 1]


def _cells(row: Sequence[tesseract.Word], *, gap: float, scale: float) -> Iterator[Cell]:
    pending: list[tesseract.Word] = []
    for word in row:
        if pending and word.left - (pending[-1].left + pending[-1].width) > gap:
            yield from _cell(pending, scale, last=False)
            pending = []
        pending.append(word)
    yield from _cell(pending, scale, last=True)


def _cell(words: Sequence[tesseract.Word], scale: float, *, last: bool) -> Iterator[Cell]:
    text = one_line(clean(" ".join(word.text for word in words)))
    if last and len(text) > 1 and text[-1] in "-¬" and text[-2].isalpha():
        text = text[:-1] + HYPHEN
    if text:
        yield Cell(scale * words[0].left, scale * (words[-1].left + words[-1].width), text)
