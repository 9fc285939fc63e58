from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import delete, update

from affinage.database.tables.index import document_revision, intent
from affinage.index.verify import verify
from tests.support.indexing import World


@pytest.fixture
def filled(world: World) -> World:
    world.allow(("0.md", ["group:hr"]), ("**", ["everyone"]))
    for n in range(8):
        world.write(f"{n}.md", f"# Rule {n}\n\nRule {n} about leave in march.")
    world.sync()
    return world


def repaired(world: World) -> dict[str, int]:
    embedded = len(world.embedder.embedded)
    report = verify(world.clients(), repair=True)
    assert report.embedded == len(world.embedder.embedded) - embedded
    assert verify(world.clients()).found == 0
    world.contents()
    world.check_search()
    return report.as_dict()


def test_sound_index_has_nothing_to_repair(filled: World) -> None:
    assert verify(filled.clients()).as_dict() == {"missing": 0, "orphaned": 0, "stale": 0, "repaired": 0, "embedded": 0}


def test_lost_rows_come_back_without_embedding(filled: World) -> None:
    filled.store.delete(filled.generation(), [row.row_id for row in filled.rows()][:3])
    assert verify(filled.clients()).missing == 3
    assert repaired(filled) == {"missing": 3, "orphaned": 0, "stale": 0, "repaired": 3, "embedded": 0}


def test_wiped_store_comes_back_without_embedding(filled: World) -> None:
    filled.store.drop(filled.generation())
    assert repaired(filled) == {"missing": 8, "orphaned": 0, "stale": 0, "repaired": 8, "embedded": 0}


def test_rows_that_nobody_refers_to_go(filled: World) -> None:
    row = filled.rows()[0]
    filled.store.upsert(filled.generation(), [replace(row, row_id="f" * 32)])
    filled.store.ensure("forgotten", dimensions=64)
    filled.store.upsert("forgotten", [row])
    assert repaired(filled) == {"missing": 0, "orphaned": 2, "stale": 0, "repaired": 2, "embedded": 0}
    assert filled.store.generations() == [filled.generation()]


@pytest.mark.parametrize("field", ["vector", "allow", "tokens", "doc_key", "chunk_id"])
def test_altered_row_is_found_and_put_right(filled: World, field: str) -> None:
    rows = filled.rows()
    other = {"vector": rows[1].vector, "allow": ("everyone", "user:mallory"), "tokens": ("x",), "doc_key": "other", "chunk_id": "other"}
    filled.store.upsert(filled.generation(), [replace(rows[0], **{field: other[field]})])
    assert repaired(filled) == {"missing": 0, "orphaned": 0, "stale": 1, "repaired": 1, "embedded": 0}


def test_lost_vectors_are_embedded_again_from_the_extracts(filled: World) -> None:
    filled.cache.remove(filled.cache.digests())
    filled.store.drop(filled.generation())
    assert repaired(filled) == {"missing": 8, "orphaned": 0, "stale": 0, "repaired": 8, "embedded": 8}


def test_rights_that_wait_for_a_sync_are_no_damage(filled: World) -> None:
    filled.allow(("**", ["group:law"]))
    assert verify(filled.clients()).found == 0


def test_rights_that_are_recorded_as_unknown_are_written_again(filled: World) -> None:
    with filled.database.write() as connection:
        connection.execute(update(document_revision).values(stored_allow=None))
    filled.store.drop(filled.generation())
    assert repaired(filled)["missing"] == 8


def test_what_a_killed_run_left_is_removed(filled: World) -> None:
    filled.write("0.md", "# Rule 0\n\nRule zero was edited.")
    assert filled.crash(at="written")
    assert verify(filled.clients()).orphaned == 1
    report = verify(filled.clients(), repair=True)
    assert (report.orphaned, report.repaired) == (1, 1)
    with filled.database.write() as connection:
        assert connection.execute(delete(intent)).rowcount == 0
    filled.check_caches()


def test_repair_forgets_vectors_of_texts_that_are_gone(filled: World) -> None:
    filled.write("0.md", "# Rule 0\n\nA text that nobody was meant to keep.")
    assert filled.crash(at="cached")
    filled.remove("0.md")
    filled.sync()
    assert len(filled.cache.digests()) == 8
    verify(filled.clients(), repair=True)
    assert len(filled.cache.digests()) == 7
