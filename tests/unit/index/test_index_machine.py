"""Random lives of a folder: whatever happens, and wherever a run is killed, the index ends as a cold one."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import update

from affinage.database.tables.index import lease
from affinage.errors import ConflictError
from affinage.identity.rights import reader
from affinage.index.stores.exact import ExactStore
from affinage.index.stores.protocol import VectorStore
from affinage.index.sync import sync_source
from affinage.index.verify import verify
from affinage.wiring import random_id
from tests.conftest import Counts
from tests.support.indexing import READERS, World

PATHS = st.sampled_from(["a.md", "b.md", "c.txt", "hr/a.md", "hr/d.md", "law/e.md", "law/f.txt"])
WORDS = ["leave", "pay", "march", "badge", "visa", "lunch", "union", "parking", "laptop", "training", "worker", "annual"]
PARAGRAPHS = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=60).map(" ".join), min_size=1, max_size=5)
ALLOW = st.sampled_from([["everyone"], ["group:hr"], ["group:law", "user:alice"], []])
FOLDERS = ("hr/**", "law/**", "**")
TEMPLATE: dict[str, Path] = {}
STORE: dict[str, Callable[[Path], VectorStore]] = {"of": lambda _: ExactStore()}
"""Makes the store of a life from its folder; the tests on real stores put theirs here."""


class IndexMachine(RuleBasedStateMachine):
    """Edits, renames, rights, crashes and syncs in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        folder = Path(self.temporary.name) / "world"
        self.world = World(folder, store=STORE["of"](folder), template=TEMPLATE["file"])
        # Lives on one server must not meet in a table.
        self.world.new_id = random_id
        self.texts: dict[str, list[str]] = {}
        self.overtaken = False

    def teardown(self) -> None:
        self.settle()
        if self.overtaken:
            # What a late run wrote is invisible, and nobody's intent names it: the scrub finds it.
            verify(self.world.clients(), repair=True)
        self.world.check(template=TEMPLATE["file"])
        for generation in self.world.store.generations():
            self.world.store.drop(generation)
        self.world.close()
        self.temporary.cleanup()

    def settle(self) -> None:
        report = self.world.sync(confirm_deletes=True)
        assert report.status == "complete"
        assert report.documents.seen == len(self.texts)

    def put(self, path: str, paragraphs: list[str]) -> None:
        self.texts[path] = paragraphs
        self.world.write(path, "# Title\n\n" + "\n\n".join(paragraphs))

    @rule(path=PATHS, paragraphs=PARAGRAPHS)
    def write(self, path: str, paragraphs: list[str]) -> None:
        self.put(path, paragraphs)

    @precondition(lambda self: self.texts)
    @rule(data=st.data(), text=st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join))
    def insert(self, data: st.DataObject, text: str) -> None:
        path = data.draw(st.sampled_from(sorted(self.texts)))
        at = data.draw(st.integers(0, len(self.texts[path])))
        self.put(path, [*self.texts[path][:at], text, *self.texts[path][at:]])

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.texts)))
        del self.texts[path]
        self.world.remove(path)

    @precondition(lambda self: self.texts)
    @rule(data=st.data(), new=PATHS)
    def rename(self, data: st.DataObject, new: str) -> None:
        old = data.draw(st.sampled_from(sorted(self.texts)))
        if old != new:
            self.texts[new] = self.texts.pop(old)
            self.world.rename(old, new)

    @precondition(lambda self: len(self.texts) > 1)
    @rule(data=st.data())
    def swap(self, data: st.DataObject) -> None:
        one, other = data.draw(st.lists(st.sampled_from(sorted(self.texts)), min_size=2, max_size=2, unique=True))
        self.world.rename(one, "swap.tmp")
        self.world.rename(other, one)
        self.world.rename("swap.tmp", other)
        self.texts[one], self.texts[other] = self.texts[other], self.texts[one]

    @rule(allow=st.tuples(ALLOW, ALLOW, ALLOW))
    def give_rights(self, allow: tuple[list[str], ...]) -> None:
        self.world.allow(*zip(FOLDERS, allow, strict=True))

    @rule(after=st.integers(0, 14), confirm=st.booleans())
    def crash(self, after: int, confirm: bool) -> None:
        self.world.crash(after=after, confirm_deletes=confirm)

    @rule(after=st.integers(0, 10))
    def overtake(self, after: int) -> None:
        """Another run takes the lease in the middle of one, does all the work, and the first goes on."""
        steps = itertools.count()

        def reached(_step: str) -> None:
            if next(steps) == after:
                with self.world.database.write() as connection:
                    connection.execute(update(lease).values(owner=None, until=None))
                sync_source(self.world.clients(reached=lambda _: None), "handbook", confirm_deletes=True)

        try:
            sync_source(self.world.clients(reached=reached), "handbook", confirm_deletes=True)
        except ConflictError:
            self.overtaken = True

    @rule()
    def sync(self) -> None:
        self.settle()

    @invariant()
    def readers_see_what_they_may_and_all_of_it(self) -> None:
        """Also between a crash and the recovery: whole documents, at most one row a chunk, nothing forbidden."""
        from sqlalchemy import select

        from affinage.database.tables.index import chunk, document

        query = select(chunk.c.chunk_id, document.c.allow).join(document, document.c.doc_key == chunk.c.doc_key)
        with self.world.database.read() as connection:
            rows: list[Any] = list(connection.execute(query))
        for user, groups in READERS:
            principals = reader(user, groups).principals
            found = [p.chunk_id for p in self.world.search("annual leave", user=user, groups=groups, k=200)]
            assert sorted(found) == sorted(row.chunk_id for row in rows if principals & set(row.allow))


@pytest.mark.parametrize(
    ("examples", "steps"),
    # Ten thousand steps, in parts that each end well within a test's time limit.
    [pytest.param(12, 20, id="quick"), *(pytest.param(100, 20, id=f"full-{part}", marks=pytest.mark.slow) for part in range(1, 6))],
)
def test_index_ends_as_a_cold_one_whatever_happens(template: Path, counts: Counts, examples: int, steps: int) -> None:
    TEMPLATE["file"] = template
    live(examples=counts.of(examples), steps=steps)


def live(*, examples: int, steps: int) -> None:
    """So many lives of so many steps; a failing one is printed with what repeats it."""
    run_state_machine_as_test(
        IndexMachine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
        ),
    )
