"""What differs between two snapshots. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from affinage.datasets.rows import Row


def difference(before: Iterable[Row], after: Iterable[Row]) -> dict[str, Any]:
    """Example ids that were added and removed, and those whose split or content changed."""
    old = {row.example_id: row for row in before}
    new = {row.example_id: row for row in after}
    both = old.keys() & new.keys()
    return {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "moved": sorted(name for name in both if old[name].split != new[name].split),
        "unchanged": sum(1 for name in both if old[name].split == new[name].split),
    }
