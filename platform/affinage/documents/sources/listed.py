"""What a listing tells of a document without reading it, and the order that every listing keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from affinage.errors import DependencyError

CLOCK_GRAIN_NS = 2_000_000_000
# Two seconds: the coarsest time stamps in use (FAT). Within them a file may change again and look the same.


def is_before(changed_ns: int, scan_started_ns: int) -> bool:
    """Whether a change is older than the scan by more than the clock's grain: a later one cannot bear the same time."""
    return changed_ns < scan_started_ns - CLOCK_GRAIN_NS


class Signature(Protocol):
    """While it stays the same, the content is taken to stay. Each kind of source has its own."""

    def as_json(self) -> Mapping[str, Any]:
        """For a JSON column; equal when and only when the signatures are."""

    def is_settled(self, scan_started_ns: int) -> bool:
        """Whether it can be trusted the next time: no change may follow that would leave it as it is."""


@dataclass(frozen=True)
class Listed:
    """One document of a source.

    `path` is relative to the source, with `/`, exactly as the source writes it. `granted` are the sorted principals that the
    source itself names for it; None: this source names nobody.
    """

    path: str
    signature: Signature
    granted: tuple[str, ...] | None = None


def in_order(system: str, found: Iterable[Listed]) -> Iterator[Listed]:
    """`found`, checked: sorted by path in code point order, each path once, and one that a database can hold.

    Raises
    ------
    DependencyError
        If `system` does not keep its promise: comparing such a listing would invent deletions.
    """
    previous: str | None = None
    for listed in found:
        if "\0" in listed.path:
            raise _unusable(system, listed.path, "holds a NUL, which no database stores", hint="Rename it, or leave it out of the source.")
        if previous is not None and listed.path == previous:
            raise _unusable(system, listed.path, "is listed twice", hint="Every document needs a key of its own.")
        if previous is not None and listed.path < previous:
            raise _unusable(system, listed.path, f"is listed after {previous!r}", hint="The listing must be sorted by code points.")
        previous = listed.path
        yield listed


def _unusable(system: str, path: str, why: str, *, hint: str) -> DependencyError:
    return DependencyError(system, f"The listing cannot be used: {path!r} {why}.", hint=hint, retryable=False)
