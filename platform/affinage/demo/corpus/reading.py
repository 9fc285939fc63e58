"""From the data files to documents with blocks and questions. Pure, but for reading package data.

A data file is one subject: a header (`person`, `service`, `folder`, `language`, `groups`), then documents opened by
`=== file name | title`. In a document, `# ` opens a section, `- ` a list item, `| ` a table row, and any other line is
a paragraph. `[[sentence||question]]` is a sentence of the text together with the question it answers: writing both in
one place is what keeps the answer verbatim.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

SOURCE = "handbook"
# The name under which the folder is declared; a document's key is `<source>/<path>`.

_MARK = re.compile(r"\[\[(.+?)\|\|(.+?)\]\]")

Kind = Literal["heading", "paragraph", "item", "table"]


@dataclass(frozen=True)
class DemoBlock:
    """A heading, paragraph or list item (`text`), or a table (`rows`, the first one is its header)."""

    kind: Kind
    text: str = ""
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class DemoDocument:
    """One document before rendering; `asked` pairs a question with the sentence that answers it."""

    path: str
    title: str
    language: str
    person: str
    blocks: tuple[DemoBlock, ...]
    asked: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """The document's name in search results and citations."""
        return f"{SOURCE}/{self.path}"

    @property
    def suffix(self) -> str:
        """The format, as the file name's ending without its dot."""
        return self.path.rpartition(".")[2]

    def text(self) -> str:
        """Title and blocks as plain text, one a line; what every rendering must give back."""
        lines = [self.title]
        for block in self.blocks:
            lines.extend([" ".join(row) for row in block.rows] if block.kind == "table" else [block.text])
        return "\n".join(lines)


@dataclass(frozen=True)
class Subject:
    """The documents that one agent knows and asks about."""

    person: str
    service: str
    folder: str
    language: str
    groups: tuple[str, ...]
    documents: tuple[DemoDocument, ...]


@cache
def demo_subjects() -> tuple[Subject, ...]:
    """Every subject, sorted by file name.

    Raises
    ------
    ValueError
        If a data file does not follow the form in this module's docstring; names the file.
    """
    folder = files("affinage.demo.corpus") / "data"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".txt")), key=lambda entry: entry.name)
    return tuple(parse_subject(entry.read_text(encoding="utf-8"), origin=entry.name) for entry in found)


def parse_subject(text: str, *, origin: str) -> Subject:
    """Parse one data file; `origin` is named in errors."""
    head, *parts = re.split(r"^=== ", text, flags=re.MULTILINE)
    header = dict(line.split(": ", 1) for line in head.splitlines() if line.strip())
    missing = {"person", "service", "folder", "language"} - header.keys()
    if missing or not parts:
        raise ValueError(f"{origin}: expected documents and the header lines person, service, folder, language; missing {sorted(missing)}")
    documents = tuple(_document(part, header=header, origin=origin) for part in parts)
    groups = tuple(header.get("groups", "").split())
    return Subject(header["person"], header["service"], header["folder"], header["language"], groups, documents)


def _document(part: str, *, header: dict[str, str], origin: str) -> DemoDocument:
    first, *lines = part.splitlines()
    name, separator, title = first.partition(" | ")
    if not separator:
        raise ValueError(f"{origin}: expected `=== file name | title`, found {first!r}")
    body = "\n".join(lines)
    asked = tuple((question.strip(), sentence.strip()) for sentence, question in _MARK.findall(body))
    plain = _MARK.sub(lambda mark: mark.group(1), body)
    if "[[" in plain or "||" in plain:
        raise ValueError(f"{origin}: {name} holds a mark that is not `[[sentence||question]]`")
    return DemoDocument(f"{header['folder']}/{name}", title.strip(), header["language"], header["person"], tuple(_blocks(plain)), asked)


def _blocks(plain: str) -> Iterator[DemoBlock]:
    rows: list[tuple[str, ...]] = []
    for line in [*(line.strip() for line in plain.splitlines()), ""]:
        if line.startswith("| "):
            rows.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
            continue
        if rows:
            yield DemoBlock("table", rows=tuple(rows))
            rows = []
        if line.startswith("# "):
            yield DemoBlock("heading", line[2:])
        elif line.startswith("- "):
            yield DemoBlock("item", line[2:])
        elif line:
            yield DemoBlock("paragraph", line)
