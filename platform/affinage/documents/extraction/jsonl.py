"""JSON lines: each line a record, its fields as lines of a paragraph; a field that is a title is a heading above it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from affinage.documents.blocks import Block
from affinage.documents.extraction.decoding import clean, decode, lines, one_line
from affinage.documents.extraction.dispatch import Extraction
from affinage.documents.extraction.progress import step
from affinage.errors import DocumentError

TITLES = ("title", "titre", "subject", "objet", "heading", "name", "nom")
LONG_FIELD = 200
# Characters; a longer text, or one of several lines, is a paragraph of its own.
_RECORDS_A_STEP = 1_000


def read(data: bytes, *, path: str) -> Extraction:
    """Blocks of all records."""
    blocks: list[Block] = []
    for number, line in enumerate(decode(data, path=path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            blocks.extend(_record(json.loads(line)))
        except (ValueError, RecursionError) as error:
            hint = "One JSON value a line; correct the line, or leave it out."
            raise DocumentError(path, "damaged", f"Line {number} of {path} is not JSON.", hint=hint) from error
        if number % _RECORDS_A_STEP == 0:
            step()
    return Extraction(tuple(blocks))


def _record(value: Any) -> Iterator[Block]:
    if not isinstance(value, dict):
        text = lines(clean(_plain(value)))
        if text:
            yield Block("paragraph", text)
        return
    fields = [(key, clean(text)) for key, text in _flat(value, "") if text.strip()]
    title = next((key for name in TITLES for key, text in fields if key.lower() == name and len(text) <= LONG_FIELD), None)
    short = []
    long = []
    for key, text in fields:
        if key == title:
            yield Block("heading", one_line(text), level=2)
        elif len(text) > LONG_FIELD or "\n" in text.strip():
            long.append(Block("paragraph", lines(text)))
        else:
            short.append(f"{key}: {one_line(text)}")
    if short:
        yield Block("paragraph", "\n".join(short))
    yield from long


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Fields with dotted names; a list of plain values is one field."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        for number, inner in enumerate(value, start=1):
            yield from _flat(inner, f"{name}.{number}")
    elif isinstance(value, list):
        yield name, ", ".join(map(_plain, value))
    else:
        yield name, _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
