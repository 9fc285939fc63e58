"""A reader that searches all the time while the index changes, and says what it should never have seen."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from affinage.index.passages import Passage
from tests.support.indexing import READERS, World

CHUNKS = 2
"""Of every document that it knows, each naming its version once: `version 7`."""
VERSION = re.compile(r"\bversion (\d+)\b")


def wrong(passages: Sequence[Passage], *, groups: Collection[str], always: Collection[str]) -> list[str]:
    """What must not be in one answer to a reader in `groups`, who may read all documents but those in `hr/`.

    Parameters
    ----------
    always
        Documents of which every answer holds all chunks, for who may read them.
    """
    found = [f"{name} is there twice" for name, count in Counter(p.chunk_id for p in passages).items() if count > 1]
    by_document: dict[str, list[Passage]] = {}
    for passage in passages:
        by_document.setdefault(passage.document.removeprefix("handbook/"), []).append(passage)
    for name, chunks in sorted(by_document.items()):
        versions = {match for chunk in chunks for match in VERSION.findall(chunk.text)}
        if len(versions) != 1:
            found.append(f"{name} is a mixture of versions {sorted(versions)}")
        if len({chunk.chunk_id for chunk in chunks}) != CHUNKS:
            found.append(f"{name} has {len(chunks)} chunks of {CHUNKS}")
        if name.startswith("hr/") and "hr" not in groups:
            found.append(f"{name} is forbidden")
    readable = {name for name in always if "hr" in groups or not name.startswith("hr/")}
    return found + [f"{name} is missing" for name in sorted(readable - by_document.keys())]


class Observer:
    """Searches as each reader in turn, in a thread, with a connection of its own."""

    def __init__(self, world: World, *, always: Collection[str]) -> None:
        self.searches = 0
        self.problems: list[str] = []
        self._world = world
        self._always = always
        self._stop = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Search until the end of the block; what was wrong is an assertion there."""
        thread = threading.Thread(target=self._search, name="observer")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(60)
        assert not self.problems, self.problems[:5]

    def _search(self) -> None:
        while not self._stop.is_set():
            for user, groups in READERS:
                try:
                    passages = self._world.search("the annual leave of a worker in march", user=user, groups=groups, k=500)
                except Exception as error:  # noqa: BLE001 (whatever it is, the thread that watches tells it)
                    self.problems.append(f"a search failed: {error!r}")
                    return
                self.searches += 1
                self.problems += wrong(passages, groups=groups, always=self._always)
