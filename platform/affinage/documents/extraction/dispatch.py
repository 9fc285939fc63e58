"""The format of a document, by its suffix; its title and its language."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from importlib import import_module, metadata
from pathlib import PurePosixPath
from typing import Protocol

from affinage.documents.blocks import Block, ExtractedDocument
from affinage.documents.extraction.contents import refuse_misnamed
from affinage.documents.extraction.decoding import clean
from affinage.documents.extraction.limits import MAX_BYTES, MAX_CHARACTERS
from affinage.documents.languages import detect
from affinage.errors import DocumentError

VERSION = 2
# Raised when the same bytes give other blocks.

TITLE_LENGTH = 200
# Characters; a first line that is longer is cut at a word.


@dataclass(frozen=True)
class Extraction:
    """What a format's module found. `title` is the one in the file's properties; a heading is a better one."""

    blocks: tuple[Block, ...]
    title: str = ""
    ocr_pages: tuple[int, ...] = ()


FORMATS = {
    ".md": "markdown", ".markdown": "markdown",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".txt": "text", ".text": "text",
    ".docx": "docx",
    ".pdf": "pdf",
    ".pptx": "pptx", ".pptm": "pptx",
    ".xlsx": "xlsx", ".xlsm": "xlsx",
    ".odt": "odf", ".ods": "odf", ".odp": "odf",
    ".csv": "csv", ".tsv": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".xml": "xml",
    ".eml": "eml",
}  # fmt: skip
SUPPORTED_SUFFIXES = frozenset(FORMATS)


def _fingerprint() -> str:
    parsers = []
    for name in ("lxml", "markdown-it-py", "pypdfium2", "python-docx", "py3langid"):
        try:
            parsers.append(f"{name}-{metadata.version(name)}")
        except metadata.PackageNotFoundError:
            parsers.append(f"{name}-absent")
    return f"extract-{VERSION}:" + ",".join(parsers)


EXTRACT_FINGERPRINT: str = _fingerprint()


def extract_fingerprint(xml: Mapping[str, str] | None) -> str:
    """What decides the blocks of a document: the extraction, and what its source declares of XML."""
    if not xml:
        return EXTRACT_FINGERPRINT
    return f"{EXTRACT_FINGERPRINT} xml={blake2b(repr(sorted(xml.items())).encode(), digest_size=8).hexdigest()}"


def reader_fingerprint(xml: Mapping[str, str] | None) -> str:
    """What reads documents on this machine: a document that failed is tried again when it changes."""
    return f"{extract_fingerprint(xml)} ocr={'yes' if shutil.which('tesseract') else 'no'}"


class Extract(Protocol):
    """`extract`, or the same in another process."""

    def __call__(self, data: bytes, *, path: str, xml: Mapping[str, str] | None = None) -> ExtractedDocument:
        """Read the document in `data`."""


def format_of(path: str) -> str | None:
    """The format of the document at `path` by its suffix, whatever its case; None when it is not supported."""
    return FORMATS.get(PurePosixPath(path).suffix.lower())


def extract(data: bytes, *, path: str, xml: Mapping[str, str] | None = None) -> ExtractedDocument:
    """Read the document in `data`, in this process.

    Parameters
    ----------
    path
        Its name in the source: the suffix tells the format, and errors name it. Nothing else of it enters the result.
    xml
        What elements of XML documents are, by name; see `xml.py`.

    Raises
    ------
    DocumentError
        With reason `unsupported`, `too_large`, `password`, `damaged`, `encoding`, `misnamed`, `no_text` or `no_ocr`.
    """
    name = format_of(path)
    if name is None:
        known = ", ".join(sorted(SUPPORTED_SUFFIXES))
        raise DocumentError(path, "unsupported", f"The format of {path} is not supported.", hint=f"Supported suffixes: {known}.")
    if len(data) > MAX_BYTES:
        raise too_large(path, len(data))
    if not data:
        raise DocumentError(path, "no_text", f"{path} is empty (0 bytes).", hint="Remove it, or restore its content.")
    refuse_misnamed(data, path=path, name=name)
    read: Callable[..., Extraction] = import_module(f"affinage.documents.extraction.{name}").read
    found = read(data, path=path, mapping=xml) if name == "xml" else read(data, path=path)
    found = Extraction(tuple(kept for block in found.blocks if (kept := _cleaned(block)) is not None), clean(found.title), found.ocr_pages)
    if not found.blocks:
        raise DocumentError(path, "no_text", f"{path} holds no text.", hint="Remove it, or restore its content.")
    if sum(len(block.text) for block in found.blocks) > MAX_CHARACTERS:
        raise DocumentError(path, "too_large", f"The text of {path} is longer than {MAX_CHARACTERS} characters.", hint="Split it.")
    return ExtractedDocument(title=_title(found), language=detect(_sample(found.blocks)), blocks=found.blocks, ocr_pages=found.ocr_pages)


def _cleaned(block: Block) -> Block | None:
    """`block` with clean text: entities and escapes bring back what decoding removed. None when nothing is left."""
    text = clean(block.text)
    rows = block.rows and tuple(tuple(clean(cell) for cell in row) for row in block.rows)
    if text == block.text and rows == block.rows:
        return block
    return replace(block, text=text, rows=rows) if text.strip() else None


def too_large(path: str, size: int) -> DocumentError:
    """The error for a file of `size` bytes, more than one document may have."""
    limit = MAX_BYTES // 2**20
    return DocumentError(path, "too_large", f"{path} has {size} bytes, more than {limit} MiB.", hint="Split it into several documents.")


def _title(found: Extraction) -> str:
    """The highest heading near the start, else the property, else the first line: never the file's name, which may change."""
    headings = [block for block in found.blocks[:50] if block.kind == "heading"]
    best = min(headings, key=lambda block: block.level or 6, default=None)
    text = best.text if best is not None else found.title or found.blocks[0].text.split("\n", 1)[0]
    text = " ".join(text[: TITLE_LENGTH * 2].split())
    return text if len(text) <= TITLE_LENGTH else text[:TITLE_LENGTH].rsplit(" ", 1)[0] + "…"


def _sample(blocks: tuple[Block, ...]) -> str:
    """Enough text to tell the language by: prose first, code never unless there is nothing else."""
    taken, length = [], 0
    for block in [b for b in blocks if b.kind != "code"] or blocks:
        taken.append(block.text[:2000])
        length += len(taken[-1])
        if length > 8000:
            break
    return "\n".join(taken)
