"""Where sentences begin and end. Pure; by rules that look at a few characters around each place only.

Because nothing further away matters, a sentence inserted somewhere never moves the bounds of the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_ABBREVIATED = (
    "m mm mme mmes mlle mlles dr pr me st ste art al alin cf ex env etc fig no nos n p pp par chap vol tél tel av bd max min réf ref éd"
    " ed c.-à-d i.e e.g mr mrs ms prof sr jr vs viz approx dept est inc ltd co corp sec ch eq jan janv fév févr feb mar avr apr juil jul"
    " aug sept sep oct nov déc dec lun mon tue wed thu fri sat sun a.m p.m u.s u.k"
)
ABBREVIATIONS = frozenset(_ABBREVIATED.split())
_END = re.compile(r"""([.!?…]+|[。！？])([)\]"'»”’]|\s»)*|\n+""")
_OPENING = "«“\"'(‘[–—-•"
_WORD_BEFORE = re.compile(r"[^\s(«“\"'’]{1,12}\Z")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Half-open offsets of the sentences of `text`, without the white space around them.

    A line feed ends a sentence. Every character that is not white space is in exactly one span. Linear in the length.
    """
    return list(_spans(text))


def _spans(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for match in _END.finditer(text):
        if _is_end(text, match):
            end = match.end()
            # Nearly always the sentence begins after one space and ends with its mark.
            if text[start : start + 1] == " ":
                start += 1
            if text[start : start + 1].isspace() or text[end - 1].isspace():
                yield from _trimmed(text, start, end)
            else:
                yield start, end
            start = end
    yield from _trimmed(text, start, len(text))


def _is_end(text: str, match: re.Match[str]) -> bool:
    mark, end = match.group(1), match.end()
    if mark is None or mark in "。！？":
        return True
    if end == len(text):
        return True
    if not text[end].isspace():
        return False
    following = _next_visible(text, end)
    if following.islower():
        return False
    return mark != "." or not _is_abbreviation(text, match.start())


def _next_visible(text: str, position: int) -> str:
    """The first letter, digit or sign after opening marks, looked for at most a few characters ahead."""
    if text[position + 1 : position + 2].isalnum():
        return text[position + 1]
    for character in text[position : position + 8]:
        if not character.isspace() and character not in _OPENING:
            return character
    return ""


def _is_abbreviation(text: str, dot: int) -> bool:
    found = _WORD_BEFORE.search(text, max(0, dot - 12), dot)
    if found is None:
        return False
    word = found.group()
    # An initial: "J. Dupont". A capital alone after a full sentence is rarer.
    return word.lower() in ABBREVIATIONS or (len(word) == 1 and word.isupper())


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end
