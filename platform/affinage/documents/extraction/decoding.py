"""Bytes to clean text, for every format. Pure.

Text that is not UTF-8 is read as Windows-1252; UTF-16 is recognised by its byte order mark or by its zero bytes. All
text leaves here in NFC and without characters that nobody sees: they would break stores, or hide words from a reader
that a model reads.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

from affinage.errors import DocumentError

BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"))
BOMS_16 = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

_NEWLINES = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line feed
    "\u00ad\u200b\u2060\ufeff"  # soft hyphen, zero width space, word joiner, byte order mark
    "\u202a-\u202e\u2066-\u2069"  # direction overrides: text would be shown in another order than it is read
    "\ud800-\udfff"  # lone surrogates: no UTF-8 holds them
    "\ufff9-\uffff\U000e0000-\U000e0fff]"  # annotations, specials, tags: invisible copies of ASCII
)
MAX_MARKS = 30
# Combining marks in a row (Unicode's Stream-Safe Text Format, UAX #15): ordering longer runs takes quadratic time.


def decode(data: bytes, *, path: str, declared: str | None = None) -> str:
    """Read `data` as text.

    Parameters
    ----------
    path
        Named in errors.
    declared
        The encoding that the document itself states; tried when the text is not UTF-8.

    Raises
    ------
    DocumentError
        `encoding`, when no decoder reads it.
    """
    for bom, name in BOMS + BOMS_16:
        if data.startswith(bom):
            data = data[len(bom) :]
            guesses = [name] if name != "utf-8" else ["utf-8", "cp1252"]
            break
    else:
        guesses = [*_without_bom(data), "utf-8", *([declared] if declared else []), "cp1252"]
    for name in guesses:
        try:
            return data.decode(name)
        except UnicodeDecodeError:
            continue
    raise DocumentError(
        path, "encoding", f"No decoder reads the text of {path}: it is neither UTF-8, UTF-16 nor Windows-1252.", hint="Save it as UTF-8."
    )


def _without_bom(data: bytes) -> list[str]:
    """UTF-16 without a mark: Latin letters leave every other byte zero."""
    head = data[:4096]
    if len(head) < 4 or len(data) % 2:
        return []
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = len(head) // 2
    if odd > 0.4 * half and even < 0.05 * half:
        return ["utf-16-le"]
    if even > 0.4 * half and odd < 0.05 * half:
        return ["utf-16-be"]
    return []


def clean(text: str) -> str:
    """NFC, line feeds as the only line ends, no control or invisible characters. Linear in the length."""
    text = _INVISIBLE.sub("", _NEWLINES.sub("\n", text))
    if text.isascii():
        return text
    marks = [character for character in set(text) if unicodedata.combining(character)]
    if marks:
        text = re.sub(f"([{re.escape(''.join(marks))}]{{{MAX_MARKS}}})[{re.escape(''.join(marks))}]+", r"\1", text)
    return unicodedata.normalize("NFC", text)


_SPACES = re.compile(r"[^\S\n]+")


def one_line(text: str) -> str:
    """`text` with every run of white space as one space."""
    return " ".join(text.split())


def lines(text: str) -> str:
    """`text` with its line feeds, but single spaces, no space at line ends and no empty lines."""
    return "\n".join(filter(None, (line.strip() for line in _SPACES.sub(" ", text).split("\n"))))
