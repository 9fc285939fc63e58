"""CSV and TSV: a table of its rows. The delimiter is told from the text, quotes as in RFC 4180."""

from __future__ import annotations

import csv
import re
from collections import Counter

from affinage.documents.extraction.decoding import clean, decode, one_line
from affinage.documents.extraction.dispatch import Extraction
from affinage.documents.extraction.limits import MAX_CHARACTERS
from affinage.documents.extraction.regions import regions
from affinage.errors import DocumentError

DELIMITERS = ";\t,|"
# In the order of trust: a comma also stands in numbers and sentences.
_SAMPLE_LINES = 50
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_DECLARED = re.compile(r"\Asep=(.)\n", re.IGNORECASE)
# What Excel writes, and takes, before the first row.


def read(data: bytes, *, path: str) -> Extraction:
    """The rows as a table, the first its header."""
    text = clean(decode(data, path=path))
    declared = _DECLARED.match(text)
    if declared:
        text = text[declared.end() :]
    delimiter = declared.group(1) if declared else delimiter_of(text)
    csv.field_size_limit(MAX_CHARACTERS)
    try:
        reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
        return Extraction(tuple(regions([one_line(cell) for cell in row] for row in reader)))
    except csv.Error as error:
        raise DocumentError(path, "damaged", f"{path} is not readable CSV: {error}.", hint="Save it anew as CSV.") from error


def delimiter_of(text: str) -> str:
    """The delimiter that stands equally often in the first lines; a comma when none does."""
    sample = [line for line in _QUOTED.sub("", text[: 1 << 16]).split("\n") if line.strip()][:_SAMPLE_LINES]
    best, best_share = ",", 0.0
    for delimiter in DELIMITERS:
        counts = Counter(line.count(delimiter) for line in sample)
        counts.pop(0, None)
        if counts:
            share = max(counts.values()) / len(sample)
            if share > best_share:
                best, best_share = delimiter, share
    return best
