"""The straight lines drawn on a page of a PDF, level or upright, as pypdfium2 gives them. `rulings.py` makes tables of them."""

from __future__ import annotations

import ctypes
from itertools import pairwise
from typing import Any

from affinage.documents.extraction.rulings import MAX_RULINGS, TOLERANCE, Ruling

LEAST_LENGTH = 8.0
# Points: shorter ones are parts of letters, arrows and underlinings.
MAX_OBJECTS = 20_000
# Of a page: one with more is a map or a plan, whose lines are no table.
MAX_POINTS = 64
# Of one shape: more make a curve.


def rulings(page: Any) -> tuple[list[Ruling], list[Ruling]]:
    """Level and upright lines of the page; none of one that is a drawing."""
    from pypdfium2 import raw  # noqa: PLC0415

    level: list[Ruling] = []
    upright: list[Ruling] = []
    count = raw.FPDFPage_CountObjects(page)
    for number in range(count if count <= MAX_OBJECTS else 0):
        shape = raw.FPDFPage_GetObject(page, number)
        if raw.FPDFPageObj_GetType(shape) != raw.FPDF_PAGEOBJ_PATH:
            continue
        for (x0, y0), (x1, y1) in _edges(raw, shape):
            if abs(y0 - y1) <= TOLERANCE and abs(x0 - x1) >= LEAST_LENGTH:
                level.append(Ruling((y0 + y1) / 2, min(x0, x1), max(x0, x1)))
            elif abs(x0 - x1) <= TOLERANCE and abs(y0 - y1) >= LEAST_LENGTH:
                upright.append(Ruling((x0 + x1) / 2, min(y0, y1), max(y0, y1)))
        if max(len(level), len(upright)) > 10 * MAX_RULINGS:
            return [], []
    return level, upright


def _edges(raw: Any, shape: Any) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The straight edges of a path, on the page."""
    count = raw.FPDFPath_CountSegments(shape)
    if not 2 <= count <= MAX_POINTS:
        return []
    matrix = raw.FS_MATRIX()
    raw.FPDFPageObj_GetMatrix(shape, matrix)
    x, y = ctypes.c_float(), ctypes.c_float()
    points: list[tuple[tuple[float, float], int]] = []
    closed = False
    for number in range(count):
        segment = raw.FPDFPath_GetPathSegment(shape, number)
        raw.FPDFPathSegment_GetPoint(segment, x, y)
        place = (matrix.a * x.value + matrix.c * y.value + matrix.e, matrix.b * x.value + matrix.d * y.value + matrix.f)
        points.append((place, raw.FPDFPathSegment_GetType(segment)))
        closed = closed or bool(raw.FPDFPathSegment_GetClose(segment))
    edges = [(a, b) for (a, _), (b, kind) in pairwise(points) if kind == raw.FPDF_SEGMENT_LINETO]
    return [*edges, (points[-1][0], points[0][0])] if closed else edges
