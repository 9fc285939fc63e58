"""Which side each row is on: training, validation or test. Pure.

Rows that share a user or a document, or that nearly repeat each other, hang together; a connected component lies on one
side. The side of everything seen in a snapshot is stored by the caller and given back: test stays test for ever. A row
that would join two sides is dropped, and so is one that would make a component larger than what is not training: a
single popular document would otherwise tie everybody together and leave nothing to judge by.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from affinage.datasets.duplicates import similar_pairs
from affinage.datasets.rows import SPLITS, Split

FRACTIONS: Mapping[Split, float] = {"train": 0.65, "validation": 0.05, "test": 0.30}
SIMILAR = 0.5
# Questions this alike test memory, not learning.
MAX_COMPONENT_SHARE = 1 - FRACTIONS["train"]
MIN_COMPONENT_ROWS = 10
# Below this the share of a handful of rows says nothing.


@dataclass(frozen=True)
class Splittable:
    """What of a row decides its side."""

    example_id: str
    user: str | None
    doc_keys: tuple[str, ...]
    question: str


@dataclass(frozen=True)
class Division:
    """`side_of` by example id (a row that is missing is dropped); `sides` by group id, to be stored."""

    side_of: Mapping[str, Split]
    sides: Mapping[str, Split]
    dropped: Collection[str]


def group_ids(row: Splittable) -> list[str]:
    """Ids under which a row's sides are stored: its user, its documents, itself. Digests, since they outlive the rows."""
    groups = [row_group(row.example_id), *(_digest(f"document:{key}") for key in sorted(set(row.doc_keys)))]
    return groups if row.user is None else [*groups, user_group(row.user)]


def user_group(user: str) -> str:
    """The group id of a user: to be removed when the user is forgotten."""
    return _digest(f"user:{user}")


def row_group(example_id: str) -> str:
    """The group id of a row itself."""
    return _digest(f"row:{example_id}")


def divide(rows: Sequence[Splittable], *, stored: Mapping[str, Split]) -> Division:
    """Put every row on a side, or drop it.

    Parameters
    ----------
    rows
        In any order; the result depends on the set only. Example ids are distinct.
    stored
        Sides of groups seen in earlier snapshots; they never change.
    """
    ordered = sorted(rows, key=lambda row: (*_rank(row, stored), row.example_id))
    neighbours: dict[int, list[int]] = defaultdict(list)
    for i, j in similar_pairs([row.question for row in ordered], threshold=SIMILAR):
        neighbours[j].append(i)
    forest = _Forest(stored, limit=max(MIN_COMPONENT_ROWS, int(len(rows) * MAX_COMPONENT_SHARE)))
    kept: dict[int, list[str]] = {}
    for i, row in enumerate(ordered):
        groups = group_ids(row)
        # The first group is the row itself: that is how its near-duplicates reach it.
        alike = [kept[j][0] for j in neighbours[i] if j in kept]
        if forest.join([*groups, *alike], user=groups[-1] if row.user is not None else None):
            kept[i] = groups
    forest.assign()
    side_of = {ordered[i].example_id: forest.side(groups[0]) for i, groups in kept.items()}
    sides = {group: forest.side(group) for groups in kept.values() for group in groups}
    dropped = {row.example_id for i, row in enumerate(ordered) if i not in kept}
    return Division(side_of, sides, dropped)


def _rank(row: Splittable, stored: Mapping[str, Split]) -> tuple[bool, str]:
    # Rows of earlier snapshots first, so that new ones can only give way to them; then user by user.
    return (row_group(row.example_id) not in stored, user_group(row.user) if row.user is not None else "")


class _Forest:
    """Union-find in which each root knows its number of rows and, once it has one, its side."""

    def __init__(self, stored: Mapping[str, Split], *, limit: int) -> None:
        self._parent: dict[str, str] = {}
        self._rows: Counter[str] = Counter()
        self._side: dict[str, Split] = {}
        self._stored = stored
        self._limit = limit

    def _find(self, group: str) -> str:
        if group not in self._parent:
            self._parent[group] = group
            if group in self._stored:
                self._side[group] = self._stored[group]
        while self._parent[group] != group:
            self._parent[group] = self._parent[self._parent[group]]
            group = self._parent[group]
        return group

    def join(self, groups: Sequence[str], *, user: str | None) -> bool:
        """Make one component of `groups` with one more row in it; False, and nothing changes, when it may not be."""
        roots = sorted({self._find(group) for group in groups})
        sides = {self._side[root] for root in roots if root in self._side}
        rows = 1 + sum(self._rows[root] for root in roots)
        others = {root for root in roots if self._rows[root]} - ({self._find(user)} if user is not None else set())
        # A user may have more rows than the limit; nobody else is then tied to them.
        if len(sides) > 1 or (others and not sides and rows > self._limit):
            return False
        first = roots[0]
        for root in roots[1:]:
            self._parent[root] = first
        self._rows[first] = rows
        if sides:
            self._side[first] = sides.pop()
        return True

    def assign(self) -> None:
        """Give a side to each component without one: the largest first, each to the side that lacks most."""
        roots = sorted({self._find(group) for group in list(self._parent)}, key=lambda root: (-self._rows[root], root))
        total = self._rows_of(roots)
        have = Counter({side: self._rows_of(root for root in roots if self._side.get(root) == side) for side in SPLITS})
        for root in roots:
            if root not in self._side and self._rows[root]:
                side = max(SPLITS, key=lambda side: FRACTIONS[side] * total - have[side])
                self._side[root] = side
                have[side] += self._rows[root]

    def _rows_of(self, roots: Iterable[str]) -> int:
        return sum(self._rows[root] for root in roots)

    def side(self, group: str) -> Split:
        return self._side[self._find(group)]


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:24]
