"""How far a sync is, how fast it goes, and how long it will take. Pure: the clock is passed in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


class Watch:
    """Hears how far a sync is; this one does nothing with it. `inspected` comes from another thread than the rest."""

    def began(self, source: str, *, documents: int) -> None:
        """So many documents have to be looked into."""

    def inspected(self, *, settled: bool) -> None:
        """One more was read; `settled`: nothing has to be written of it."""

    def writing(self, *, documents: int, chunks: int) -> None:
        """A batch of so many is being written."""

    def embedding(self, done: int, of: int) -> None:
        """So many texts of the batch have a vector."""

    def written(self) -> None:
        """The batch is."""


@dataclass(frozen=True)
class Progress:
    """Where a sync stands, since its first document was opened.

    `ratio` in [0, 1] counts reading and writing alike, since either may be the slower. `seconds_left` is None before
    anything can be said.
    """

    source: str
    documents: int
    of: int
    chunks: int
    ratio: float
    documents_per_second: float
    chunks_per_second: float
    seconds_left: float | None

    def text(self) -> str:
        """One line for people."""
        left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left"
        rates = f"{self.documents_per_second:.1f}/s), {self.chunks} chunks ({self.chunks_per_second:.1f}/s)"
        return f"{self.source}: {self.documents} of {self.of} documents ({rates}{left}"


class Pace(Watch):
    """Adds up what a sync says, and tells `show` after each change."""

    def __init__(self, show: Callable[[Progress], None], *, timer: Callable[[], float]) -> None:
        self._show = show
        self._timer = timer
        self._lock = threading.Lock()
        self._source, self._of, self._started = "", 0, timer()
        self._read = self._done = self._chunks = 0
        self._batch: tuple[int, int] = (0, 0)
        self._embedded = 0.0

    def began(self, source: str, *, documents: int) -> None:
        """So many documents have to be looked into."""
        with self._lock:
            self._source, self._of, self._started = source, documents, self._timer()
            self._read = self._done = self._chunks = 0
            self._batch, self._embedded = (0, 0), 0.0

    def inspected(self, *, settled: bool) -> None:
        """One more was read; `settled`: nothing has to be written of it."""
        with self._lock:
            self._read += 1
            self._done += settled
            self._show(self._progress())

    def writing(self, *, documents: int, chunks: int) -> None:
        """A batch of so many is being written."""
        with self._lock:
            self._batch = (documents, chunks)
            self._embedded = 0.0

    def embedding(self, done: int, of: int) -> None:
        """So many texts of the batch have a vector."""
        with self._lock:
            self._embedded = done / of
            self._show(self._progress())

    def written(self) -> None:
        """The batch is."""
        with self._lock:
            documents, chunks = self._batch
            self._done, self._chunks = self._done + documents, self._chunks + chunks
            self._batch, self._embedded = (0, 0), 0.0
            self._show(self._progress())

    def _progress(self) -> Progress:
        done = self._done + self._batch[0] * self._embedded
        chunks = self._chunks + self._batch[1] * self._embedded
        elapsed = max(self._timer() - self._started, 1e-9)
        ratio = min((self._read + done) / (2 * self._of), 1.0) if self._of else 1.0
        left = elapsed * (1 - ratio) / ratio if ratio > 0 else None
        return Progress(self._source, int(done), self._of, int(chunks), ratio, done / elapsed, chunks / elapsed, left)


def duration(seconds: float) -> str:
    """`seconds` as people say it, in its two largest units: `41 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    whole = round(seconds)
    for size, name, smaller, smaller_name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole} s"
