"""How far a scanned page is turned, and the page turned back. Pure.

Where lines of text are level, rows of pixels are either full of ink or empty: the angle at which the rows differ most is the
page's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_DEGREES = 4.0
# Sheets lie crooked in a scanner by no more; beyond, the picture is no page of text.
STEP_DEGREES = 0.1
LEAST_DEGREES = 0.15
# Less does not hinder recognition, and turning costs sharpness.
_LOOKED_AT = 600
# Pixels of width on which the angle is told.
WHITE = 255
_BAND = 256
# Rows of pixels that are turned at once.


def angle_of(page: NDArray[np.uint8]) -> float:
    """Degrees by which the lines of `page` (height, width; 0 is black) fall from left to right."""
    step = max(1, page.shape[1] // _LOOKED_AT)
    small = page[::step, ::step]
    ink = (small < (int(small.min()) + int(small.max())) / 2).astype(np.int32)
    rows, columns = np.nonzero(ink)
    if not len(rows):
        return 0.0
    height, width = ink.shape

    def contrast(degrees: float) -> float:
        shifted = np.rint(rows - (columns - width / 2) * np.tan(np.radians(degrees))).astype(np.int64)
        counts = np.bincount(np.clip(shifted, 0, height - 1), minlength=height)
        return float(np.square(np.diff(counts)).sum())

    def best(first: float, last: float, by: float) -> float:
        return max((float(degrees) for degrees in np.arange(first, last + by / 2, by)), key=contrast)

    coarse = best(-MAX_DEGREES, MAX_DEGREES, 5 * STEP_DEGREES)
    return round(best(coarse - 5 * STEP_DEGREES, coarse + 5 * STEP_DEGREES, STEP_DEGREES), 2)


def turned_back(page: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """`page` with lines level that fall by `degrees`, about its middle; what was outside is white."""
    height, width = page.shape
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    x = np.arange(width, dtype=np.float32)[None, :] - width / 2
    level = np.empty_like(page)
    for start in range(0, height, _BAND):  # a whole page at once takes forty times its size in memory
        y = np.arange(start, min(start + _BAND, height), dtype=np.float32)[:, None] - height / 2
        level[start : start + _BAND] = _between(page, sine * x + cosine * y + height / 2, cosine * x - sine * y + width / 2)
    return level


def _between(page: NDArray[np.uint8], y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The page at places between its pixels, by bilinear interpolation."""
    height, width = page.shape
    bordered = np.pad(page, ((0, 1), (0, 1)), constant_values=WHITE)
    inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = y.astype(np.intp), x.astype(np.intp)
    down, right = (y - top).astype(np.float32), (x - left).astype(np.float32)
    upper = bordered[top, left] * (1 - right) + bordered[top, left + 1] * right
    lower = bordered[top + 1, left] * (1 - right) + bordered[top + 1, left + 1] * right
    found = np.rint(upper * (1 - down) + lower * down)
    return np.where(inside, found, WHITE).astype(np.uint8)
