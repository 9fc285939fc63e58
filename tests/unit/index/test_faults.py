"""What fails around the index, and each protection switched off: then the same check must fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from affinage.database.engine import Database
from affinage.database.tables.index import lease
from affinage.errors import ConflictError, DependencyError
from affinage.index import ledger
from affinage.index.builds import list_generations
from affinage.index.leases import Lease
from affinage.index.sync import sync_source
from affinage.index.verify import verify
from tests.support.indexing import World

RULES = {f"{n}.md": f"# Rule {n}\n\nRule number {n} about leave." for n in range(4)}


@pytest.fixture
def filled(world: World) -> World:
    for path, text in RULES.items():
        world.write(path, text)
    world.sync()
    return world


def change(world: World) -> None:
    world.write("0.md", "# Rule 0\n\nRule zero was edited.")
    world.write("new.md", "# New\n\nA new rule about pay in march.")
    world.remove("1.md")
    world.allow(("3.md", ["group:hr"]), ("**", ["everyone"]))


@pytest.mark.parametrize("call", ["upsert", "delete", "patch_allow"])
def test_store_that_applies_a_call_and_answers_with_a_time_out_is_repaired_by_the_next_run(
    filled: World, template: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = getattr(filled.store, call)

    def applied(*arguments: Any) -> None:
        real(*arguments)
        raise DependencyError("lancedb", "The answer did not come in time.")

    change(filled)
    with monkeypatch.context() as patch:
        patch.setattr(filled.store, call, applied)
        with pytest.raises(DependencyError):
            filled.sync()
    filled.check_search()
    filled.sync()
    filled.check(template=template)


def test_store_that_refuses_a_part_of_the_deletions_keeps_no_row_for_good(
    filled: World, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = filled.store.delete

    def refused(generation: str, rows: Any) -> None:
        real(generation, sorted(rows)[: len(rows) // 2])
        raise DependencyError("weaviate", "Some objects were not deleted.")

    change(filled)
    with monkeypatch.context() as patch:
        patch.setattr(filled.store, "delete", refused)
        with pytest.raises(DependencyError):
            filled.sync()
    filled.check_search()
    filled.sync()
    filled.check(template=template)


def test_ledger_restored_from_an_older_copy_ends_as_a_cold_index(filled: World, template: Path) -> None:
    file = filled.folder / "affinage.db"
    with filled.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(file, filled.folder / "older.db")
    change(filled)
    filled.sync()
    filled.database.close()
    for name in ("affinage.db-wal", "affinage.db-shm"):
        (filled.folder / name).unlink(missing_ok=True)
    shutil.copy(filled.folder / "older.db", file)
    filled.declare()

    filled.sync()
    verify(filled.clients(), repair=True)

    filled.check(template=template)


def test_deleted_vector_cache_costs_embeddings_of_what_changes_and_nothing_else(filled: World) -> None:
    filled.cache.close()
    (filled.folder / "cache.db").unlink()
    change(filled)
    before = len(filled.embedder.embedded)
    report = filled.sync()
    assert report.chunks.embedded == len(filled.embedder.embedded) - before == 2
    filled.contents()
    filled.check_search()


# Controls


def guard_is_off(patch: pytest.MonkeyPatch) -> None:
    """Rows count whatever the ledger says of them and of the reader."""
    real = ledger.guard
    everybody = frozenset({"everyone", "group:hr"})
    patch.setattr(ledger, "guard", lambda connection, **given: real(connection, **{**given, "principals": everybody}))


def test_without_the_guard_a_revoked_document_is_found(filled: World) -> None:
    filled.allow(("3.md", ["group:hr"]), ("**", ["everyone"]))
    filled.check_search()
    with pytest.MonkeyPatch.context() as patch:
        guard_is_off(patch)
        with pytest.raises(AssertionError):
            filled.check_search()


def test_without_intents_a_killed_run_leaves_rows_behind(filled: World) -> None:
    change(filled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "add_intents", lambda *_, **__: None)
        assert filled.crash(at="written")
        filled.sync()
    with pytest.raises(AssertionError, match="rows that the ledger does not"):
        filled.contents()


def overtaken(world: World) -> Callable[[str], None]:
    """A step at which another run takes the lease, and indexes a newer text."""

    def reached(step: str) -> None:
        if step == "written":
            with world.database.write() as connection:
                connection.execute(update(lease).values(owner=None, until=None))
            world.write("0.md", "# Rule 0\n\nThe newest text.")
            sync_source(world.clients(reached=lambda _: None), "handbook")

    return reached


def test_without_the_check_of_the_fence_a_late_run_takes_the_newest_text_away(filled: World) -> None:
    filled.write("0.md", "# Rule 0\n\nAn old text.")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lease, "check", lambda *_: None)
        sync_source(filled.clients(reached=overtaken(filled)), "handbook")
    assert "The newest text." not in {p.text for p in filled.search("newest text", k=50)}


def test_late_first_run_makes_no_second_generation_that_serves(world: World) -> None:
    world.write("0.md", RULES["0.md"])

    def reached(step: str) -> None:
        if step == "surveyed":
            overtaken(world)("written")

    with pytest.raises(ConflictError):
        sync_source(world.clients(reached=reached), "handbook")
    with world.database.read() as connection:
        assert [g.state for g in list_generations(connection, "handbook")] == ["serving"]


def test_with_the_check_of_the_fence_it_does_not(filled: World) -> None:
    filled.write("0.md", "# Rule 0\n\nAn old text.")
    with pytest.raises(ConflictError):
        sync_source(filled.clients(reached=overtaken(filled)), "handbook")
    found = {p.text for p in filled.search("newest text", k=50)}
    assert "The newest text." in found
    assert "An old text." not in found


def test_without_the_brake_an_empty_folder_empties_the_index(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in RULES:
        filled.remove(path)
    assert filled.sync().documents.held == len(RULES)
    monkeypatch.setattr("affinage.index.survey.must_hold", lambda **_: False)
    assert filled.sync().documents.deleted == len(RULES)


def test_without_a_commit_before_the_rows_a_killed_run_embeds_everything_again(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    change(filled)
    with monkeypatch.context() as patch:
        patch.setattr(filled.cache, "put", lambda *_: None)
        assert filled.crash(at="written")
    assert filled.sync().chunks.embedded == 2


def test_rows_of_a_database_that_is_another_ones_are_never_shown(filled: World, tmp_path: Path) -> None:
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    other.migrate()
    with other.read() as connection:
        rows = [row.row_id for row in filled.rows()]
        found = ledger.guard(connection, generation_id=filled.generation(), row_ids=rows, principals=frozenset({"everyone"}))
    assert not found.visible
    assert found.outdated
    other.close()
