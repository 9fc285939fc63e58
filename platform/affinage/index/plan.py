"""What a sync has to do, from what is listed and what is known. Pure.

Listing and ledger are merge-joined as streams sorted by path: a corpus in which nothing changed costs one pass and no
memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Protocol, TypeVar

HELD_MINIMUM = 20
HELD_RATIO = 0.10
# More missing documents than both look like a mount that is not there, not like people who delete files.


@dataclass(frozen=True)
class Known:
    """A document as the ledger knows it."""

    doc_key: str
    path: str
    signature: Any
    raw_hash: str | None
    allow: tuple[str, ...]
    failed: bool
    failure: Mapping[str, Any] | None = None
    attempts: int = 0
    retry_at: datetime | None = None


class HasPath(Protocol):
    """Anything with a path."""

    @property
    def path(self) -> str:
        """Where the document lies in its source."""


L = TypeVar("L", bound=HasPath)


def join(listing: Iterable[L], ledger: Iterable[Known]) -> Iterator[tuple[L | None, Known | None]]:
    """Pair what is listed with what is known, by path.

    Parameters
    ----------
    listing, ledger
        Both sorted by path in code point order, without duplicates.

    Yields
    ------
    tuple
        (listed, known); None on the side that lacks the path.

    Raises
    ------
    ValueError
        If one side is not sorted: pairing would then invent deletions.
    """
    left, right = _sorted(listing, "listing"), _sorted(ledger, "ledger")
    listed, known = next(left, None), next(right, None)
    while listed is not None or known is not None:
        if known is None or (listed is not None and listed.path < known.path):
            yield listed, None
            listed = next(left, None)
        elif listed is None or known.path < listed.path:
            yield None, known
            known = next(right, None)
        else:
            yield listed, known
            listed, known = next(left, None), next(right, None)


S = TypeVar("S", bound=HasPath)


def _sorted(items: Iterable[S], name: str) -> Iterator[S]:
    previous: str | None = None
    for item in items:
        if previous is not None and item.path <= previous:
            raise ValueError(f"the {name} is not sorted by path: {item.path!r} follows {previous!r}")
        previous = item.path
        yield item


def match_moves(added: Mapping[str, str], missing: Sequence[Known]) -> dict[str, Known]:
    """Which added path is which missing document under a new name.

    Parameters
    ----------
    added
        Raw content hash by new path. The suffix must stay too: it decides how the bytes are read.
    missing
        Documents that are no longer listed. One that failed is never matched: its content is not known.

    Returns
    -------
    dict
        New path to the document that moved there; each document moves once, in the order of paths.
    """
    by_hash: dict[tuple[str, str], list[Known]] = defaultdict(list)
    for known in sorted(missing, key=lambda k: k.path, reverse=True):
        if known.raw_hash is not None and not known.failed:
            by_hash[known.raw_hash, _suffix(known.path)].append(known)
    moves: dict[str, Known] = {}
    for path in sorted(added):
        candidates = by_hash.get((added[path], _suffix(path)))
        if candidates:
            moves[path] = candidates.pop()
    return moves


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def must_hold(*, missing: int, known: int, listed: int) -> bool:
    """Whether deletions wait for confirmation: too many are missing at once, or nothing is listed at all.

    Parameters
    ----------
    missing
        Known documents that are not listed, moved ones not counted.
    known
        Documents the ledger knew before this run.
    listed
        Documents listed.
    """
    if missing == 0:
        return False
    return listed == 0 or missing > max(HELD_MINIMUM, HELD_RATIO * known)
