"""The corpus as a folder on disk, and the four changes that an incremental run is shown on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from affinage.demo.corpus.docx import docx
from affinage.demo.corpus.markup import html, markdown, text
from affinage.demo.corpus.pillow import scanned_pdf
from affinage.demo.corpus.reading import DemoDocument, demo_subjects
from affinage.demo.corpus.reportlab import pdf

RENDERERS: Mapping[str, Callable[[DemoDocument], bytes]] = MappingProxyType(
    {"md": markdown, "html": html, "txt": text, "docx": docx, "pdf": pdf}
)
SCANNED_PATH = "public/archives/registre-1931.pdf"
SCANNED_LINES = (
    "Registre des délibérations de Castel-Orme, 1931",
    "Le conseil accorde au garde champêtre une bicyclette",
    "et une paire de sabots pour la saison d'hiver.",
    "Fait en séance, le 9 novembre.",
)
# Nobody asks about the sentence that changes, the letter that moves or the notice that goes: every question keeps its answer.
EDITED_PATH = "public/dechets/decheterie.md"
EDITED_FROM = "Les pneus de camion et les bouteilles de gaz ne sont jamais acceptés."
EDITED_TO = "Les pneus de camion restent refusés ; les bouteilles de gaz vides sont reprises depuis le 1er février."
RENAMED = ("public/infos/lettre-habitants.md", "public/infos/2026/lettre-de-mars.md")
DELETED_PATH = "public/infos/brocante-printemps.txt"


@dataclass(frozen=True)
class Corpus:
    """What was written: how many documents, of which formats, and how many questions are asked about them."""

    documents: int
    by_format: Mapping[str, int]
    questions: int


def write_corpus(folder: Path) -> Corpus:
    """Render every document into `folder`, which is created; the same bytes on every call.

    Parameters
    ----------
    folder
        Where to write. Files of the same name are overwritten, others are left alone.

    Returns
    -------
    Corpus
        Counts by format (`scan` is the page that is only an image).
    """
    counts: Counter[str] = Counter()
    questions = 0
    for subject in demo_subjects():
        for document in subject.documents:
            _write(folder / document.path, RENDERERS[document.suffix](document))
            counts[document.suffix] += 1
            questions += len(document.asked)
    _write(folder / SCANNED_PATH, scanned_pdf(SCANNED_LINES))
    counts["scan"] += 1
    return Corpus(counts.total(), dict(sorted(counts.items())), questions)


def edit_one_paragraph(folder: Path) -> str:
    """Change one sentence of one document; returns its path."""
    file = folder / EDITED_PATH
    before = file.read_text(encoding="utf-8")
    if EDITED_FROM not in before:
        raise ValueError(f"{file} does not hold {EDITED_FROM!r}: it was edited before, or the corpus was not written here")
    file.write_text(before.replace(EDITED_FROM, EDITED_TO), encoding="utf-8")
    return EDITED_PATH


def rename_one(folder: Path) -> tuple[str, str]:
    """Move one document into another folder under another name; returns the old and the new path."""
    old, new = RENAMED
    (folder / new).parent.mkdir(parents=True, exist_ok=True)
    (folder / old).rename(folder / new)
    return old, new


def delete_one(folder: Path) -> str:
    """Remove one notice; returns its path."""
    (folder / DELETED_PATH).unlink()
    return DELETED_PATH


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
