"""Text recognition by Tesseract, a program of the system (Debian: tesseract-ocr, tesseract-ocr-fra, tesseract-ocr-eng).

A picture goes in, words with their place and confidence come out. One thread, a limit of time for each page, and the program
ends with this process.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from affinage.processes import spawn

LANGUAGES = ("fra", "eng")
PAGE_SECONDS = 90
# Usually two to four; a page of newspaper on a busy machine takes ten times as long.
PACKAGES = "tesseract-ocr tesseract-ocr-fra tesseract-ocr-eng"
# Of Debian.
_LIST_SECONDS = 30


@dataclass(frozen=True)
class Word:
    """A word, its line (block, paragraph, line), its box in pixels from the upper left corner, and a confidence of 0 to 100."""

    line: tuple[int, int, int]
    left: int
    top: int
    width: int
    height: int
    confidence: float
    text: str


class TooSlowError(Exception):
    """A page took longer than `PAGE_SECONDS`."""


class RecognitionError(Exception):
    """The program failed."""


@cache
def languages() -> tuple[str, ...]:
    """Those of `LANGUAGES` that are installed; empty without the program."""
    if shutil.which("tesseract") is None:
        return ()
    listed = subprocess.run(["tesseract", "--list-langs"], capture_output=True, check=False, timeout=_LIST_SECONDS)  # noqa: S607
    installed = listed.stdout.decode(errors="replace").split()
    return tuple(language for language in LANGUAGES if language in installed)


def recognise(picture: NDArray[np.uint8], *, dpi: int) -> list[Word]:
    """The words of a grey picture of shape (height, width), in reading order.

    Raises
    ------
    TooSlowError, RecognitionError
        If there is no result.
    """
    height, width = picture.shape
    command = ["tesseract", "stdin", "stdout", "-l", "+".join(languages()), "--dpi", str(dpi), "tsv"]
    process = spawn(
        command, environment={"OMP_THREAD_LIMIT": "1"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        out, _ = process.communicate(b"P5 %d %d 255\n" % (width, height) + picture.tobytes(), timeout=PAGE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise TooSlowError from error
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode:
        raise RecognitionError(f"exit code {process.returncode}")
    return list(_words(out.decode(errors="replace")))


def _words(table: str) -> Iterator[Word]:
    for row in csv.DictReader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        text = (row["text"] or "").strip()
        if row["level"] == "5" and text:
            line = (int(row["block_num"]), int(row["par_num"]), int(row["line_num"]))
            left, top, width, height = (int(row[name]) for name in ("left", "top", "width", "height"))
            yield Word(line, left, top, width, height, float(row["conf"]), text)
