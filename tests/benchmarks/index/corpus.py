"""A corpus of Markdown files made from a seed, and what people do to it between two runs.

Standard library only: the peers' environments hold nothing of ours.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

LONG = "annex/000.md"
LONG_BYTES = 1_200_000
SETTLED_SECONDS = 2.5
# A file's times are trusted when they are older than the coarsest clock of a file system, which is 2 s.

_STARTS, _ENDS = "bcdfglmnprstvz", "aeiou"


class Corpus:
    """A folder of `small` files and a long one, the same for the same seed.

    Parameters
    ----------
    small
        Files beside the long one.
    size
        Bytes of a small file, about.
    """

    def __init__(self, folder: Path, *, seed: int = 7, small: int = 2_000, size: int = 6_700) -> None:
        self.folder = folder
        self.small = small
        self.size = size
        self._random = random.Random(seed)
        self._words = ["".join(self._syllable() for _ in range(self._random.randint(1, 4))) for _ in range(4_000)]

    def paths(self) -> list[str]:
        """The small files, as they were written, sorted."""
        return [f"part-{n // 100:03d}/{n:05d}.md" for n in range(self.small)]

    def write(self) -> int:
        """Write every file; returns their bytes."""
        total = 0
        for path in self.paths():
            total += self._put(path, self._document(path, self.size))
        return total + self._put(LONG, self._document("Annex", LONG_BYTES))

    def paragraph(self) -> str:
        """A new paragraph of five to eight sentences."""
        return " ".join(self._sentence() for _ in range(self._random.randint(5, 8)))

    def edit(self, paths: list[str]) -> None:
        """Replace one paragraph in the middle of each file."""
        for path in paths:
            parts = (self.folder / path).read_text(encoding="utf-8").split("\n\n")
            places = [i for i, part in enumerate(parts) if not part.startswith("#")]
            parts[places[len(places) // 2]] = self.paragraph()
            self._put(path, "\n\n".join(parts))

    def insert_at_the_top(self, path: str) -> None:
        """Insert a paragraph below the title, or before a text without paragraph marks."""
        text = (self.folder / path).read_text(encoding="utf-8")
        title, separator, rest = text.partition("\n\n")
        self._put(path, f"{title}\n\n{self.paragraph()}\n\n{rest}" if separator else f"{self.paragraph()} {text}")

    def flatten(self, path: str) -> None:
        """Remove every mark of heading and paragraph: one line, as text out of a PDF often is."""
        text = (self.folder / path).read_text(encoding="utf-8")
        self._put(path, " ".join(part for part in text.split("\n\n") if not part.startswith("#")))

    def touch(self) -> None:
        """New times on every file, same bytes."""
        for file in self.folder.rglob("*.md"):
            os.utime(file)

    def rename(self, paths: list[str]) -> None:
        """Give each file another name in its folder."""
        for path in paths:
            file = self.folder / path
            file.rename(file.with_name(f"renamed-{file.name}"))

    def delete(self, paths: list[str]) -> None:
        """Remove the files."""
        for path in paths:
            (self.folder / path).unlink()

    def settle(self) -> None:
        """Wait until no file is so young that its times may not be trusted."""
        youngest = max(file.stat().st_ctime_ns for file in self.folder.rglob("*.md"))
        time.sleep(max(0.0, SETTLED_SECONDS - (time.time_ns() - youngest) / 1e9))

    def _syllable(self) -> str:
        return self._random.choice(_STARTS) + self._random.choice(_ENDS)

    def _sentence(self) -> str:
        words = self._random.choices(self._words, k=self._random.randint(8, 18))
        return " ".join(words).capitalize() + "."

    def _document(self, title: str, size: int) -> str:
        parts = [f"# Title of {title}"]
        length = 0
        while length < size:
            section = [f"## {' '.join(self._random.choices(self._words, k=4)).capitalize()}"]
            section += [self.paragraph() for _ in range(self._random.choice((1, 1, 1, 2)))]
            parts += section
            length += sum(len(part) + 2 for part in section)
        return "\n\n".join(parts) + "\n"

    def _put(self, path: str, text: str) -> int:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.write_bytes(text.encode())
