"""Which arm a unit is in, and how probable that was. Pure.

The position of a unit depends on public strings only, so any program can compute it (golden vectors in the tests). Called
by `routing`, the simulations and `experiment assign`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

CONTROL = "control"
CANDIDATE = "candidate"
MATCHED = "matched"
DEFAULT_LAYER = "default"

_NAMESPACE = b"affinage/1"
_SEPARATOR = b"\x1f"
_MANTISSA_BITS = 53
# A double holds 53 bits exactly, so u is the same number in every language.

Interval = tuple[float, float]


def position(unit: str, *, experiment: str, layer: str = DEFAULT_LAYER) -> float:
    """Where the unit lies on [0, 1): the top 53 bits of BLAKE2b over layer, experiment and unit."""
    parts = (_NAMESPACE, layer.encode(), experiment.encode(), unit.encode())
    digest = hashlib.blake2b(_SEPARATOR.join(parts), digest_size=8).digest()
    return float(int.from_bytes(digest, "big") >> (64 - _MANTISSA_BITS)) / 2.0**_MANTISSA_BITS


def candidate_name(k: int) -> str:
    """Name of candidate number `k`, counted from 0: `candidate`, `candidate-2`, `candidate-3`."""
    return CANDIDATE if k == 0 else f"{CANDIDATE}-{k + 1}"


@dataclass(frozen=True)
class Split:
    """The arms' intervals at one stage.

    Candidate k of K owns `[k/(K+1), k/(K+1) + shares[k])`; `matched` grows leftwards from 1; control has the rest. A share
    that rises therefore moves nobody out of a candidate.
    """

    shares: tuple[float, ...]
    matched: float = 0.0

    def __post_init__(self) -> None:
        widest = 1 / (len(self.shares) + 1)
        if not self.shares or not all(0 <= share <= widest for share in self.shares):
            raise ValueError(f"each of {len(self.shares)} candidates may have a share from 0 to {widest:g}, not {self.shares}")
        if not 0 <= self.matched <= widest:
            raise ValueError(f"the matched control may have a share from 0 to {widest:g}, not {self.matched}")

    def intervals(self) -> list[tuple[str, Interval]]:
        """The named arms with their half-open intervals, without control."""
        slots = len(self.shares) + 1
        arms = [(candidate_name(k), (k / slots, k / slots + share)) for k, share in enumerate(self.shares)]
        return [*arms, (MATCHED, (1 - self.matched, 1.0))] if self.matched else arms

    def arm_of(self, u: float) -> str:
        """The arm at position `u`."""
        return next((name for name, (start, end) in self.intervals() if start <= u < end), CONTROL)

    def region(self, arm: str) -> list[Interval]:
        """The positions that `arm` owns, as disjoint intervals."""
        if arm != CONTROL:
            return [interval for name, interval in self.intervals() if name == arm]
        free: list[Interval] = [(0.0, 1.0)]
        for _, taken in self.intervals():
            free = list(_minus(free, taken))
        return free


def _minus(intervals: Iterable[Interval], taken: Interval) -> Iterable[Interval]:
    for start, end in intervals:
        for piece in ((start, min(end, taken[0])), (max(start, taken[1]), end)):
            if piece[0] < piece[1]:
                yield piece


def _both(left: Sequence[Interval], right: Sequence[Interval]) -> list[Interval]:
    overlaps = ((max(a, c), min(b, d)) for a, b in left for c, d in right)
    return [overlap for overlap in overlaps if overlap[0] < overlap[1]]


def _length(intervals: Iterable[Interval]) -> float:
    return sum(end - start for start, end in intervals)


def probability(stages: Sequence[Split], *, stage: int, earlier_arms: Mapping[int, str], arm: str = CANDIDATE) -> float:
    """Probability that a unit is in `arm` at `stage`, given the arms it was seen in at earlier stages.

    0 or 1 means that the assignment was certain: it carries no evidence. A unit first seen now has the plain share; one
    that was control at share q1 has (q2 − q1) / (1 − q1).

    Parameters
    ----------
    stages
        The split of each stage, in order.
    earlier_arms
        Stage → arm. Entries at `stage` and after it are ignored.

    Raises
    ------
    ValueError
        If no unit can have been in these earlier arms.
    """
    known: list[Interval] = [(0.0, 1.0)]
    for earlier in sorted(s for s in earlier_arms if s < stage):
        known = _both(known, stages[earlier].region(earlier_arms[earlier]))
    if not known:
        raise ValueError(f"no unit can have been in the arms {dict(earlier_arms)} with these shares")
    return _length(_both(known, stages[stage].region(arm))) / _length(known)


def splits(shares: Iterable[float]) -> tuple[Split, ...]:
    """The stages of an experiment with one candidate whose share takes these values."""
    return tuple(Split((share,)) for share in shares)
