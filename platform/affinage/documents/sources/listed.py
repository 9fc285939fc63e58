"""What a listing tells of a document without reading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CLOCK_GRAIN_NS = 2_000_000_000
# Two seconds: the coarsest time stamps in use (FAT). Within them a file may change again and look the same.


@dataclass(frozen=True)
class Signature:
    """A file's size, times and inode: while they stay, the bytes are taken to stay.

    The change time is part of it because copying tools restore the modification time, and nothing restores that one.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    def as_json(self) -> dict[str, int]:
        """For a JSON column."""
        # A copy of plain numbers: `asdict` took a third of a run in which nothing changed.
        return dict(vars(self))

    @classmethod
    def from_json(cls, stored: Mapping[str, int] | None) -> Signature | None:
        """What `as_json` gave; None when it is something else."""
        try:
            return None if stored is None else cls(**stored)
        except TypeError:
            return None

    def is_settled(self, scan_started_ns: int) -> bool:
        """Whether it is older than the scan by more than the clock's grain, and so can be trusted the next time."""
        return max(self.mtime_ns, self.ctime_ns) < scan_started_ns - CLOCK_GRAIN_NS


@dataclass(frozen=True)
class Listed:
    """One document of a source. `path` is relative to the source, with `/`, exactly as the source writes it."""

    path: str
    signature: Signature
