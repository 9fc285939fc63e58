"""Since when nobody has needed an adapter that is still on the pods, and which may go. Pure; called by the controller's wiring."""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import datetime, timedelta

GRACE = timedelta(minutes=15)
"""Longer than the longest answer (a pod gives up after 10 minutes), and time to think better of it."""
MOST_AT_ONCE = 8
"""Unloaded in one round of the controller: its other duties wait for it."""


class Idle:
    """Adapters on pods that nobody needs, by the address of the pool. Starts anew with its process."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], datetime] = {}

    def see(self, loaded: Mapping[str, Set[str]], *, unneeded: Set[str], now: datetime) -> None:
        """Take in what is on the pods; one that is needed again begins its grace anew the next time."""
        seen = {(url, adapter) for url, adapters in loaded.items() for adapter in adapters & unneeded}
        self._since = {one: self._since.get(one, now) for one in sorted(seen)}

    def due(self, *, now: datetime) -> list[tuple[str, str]]:
        """Pool and adapter of those whose grace is over, the longest unneeded first."""
        over = [one for one, since in self._since.items() if now - since >= GRACE]
        return sorted(over, key=lambda one: (self._since[one], one))[:MOST_AT_ONCE]

    def forget(self, url: str, adapter: str) -> None:
        """It was unloaded."""
        self._since.pop((url, adapter), None)
