"""How a source stands, by itself and as people are told."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from affinage.cli.index_lines import FAILURES_SHOWN, run_line, status_lines
from affinage.database.tables.index import intent
from affinage.errors import DependencyError
from affinage.index.hints import record_hint
from affinage.index.runs import list_runs
from affinage.index.status import SourceStatus, source_status
from tests.support.indexing import World


def status(world: World) -> SourceStatus:
    with world.database.read() as connection:
        return source_status(connection, "handbook", now=world.clock())


def told(world: World) -> str:
    return "\n".join(status_lines(status(world)))


def test_a_source_that_was_never_indexed_says_so(world: World) -> None:
    found = status(world)
    assert (found.last_complete_scan, found.last_run, found.generation, found.states) == (None, None, None, {})
    assert told(world) == "handbook: 0 documents, 0 failed, 0 chunks, generation - (-)\n  last complete scan: never"


def test_the_age_is_that_of_the_last_run_that_listed_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.write("broken.docx", "no zip")
    partial = world.sync()
    assert partial.status == "partial", "some documents failed; the listing was whole"
    world.clock.advance(hours=2)
    assert status(world).last_complete_scan == {
        "run_id": partial.run_id,
        "status": "partial",
        "started_at": world.clock.at.replace(hour=9),
        "ended_at": world.clock.at.replace(hour=9),
        "age_seconds": 7200.0,
    }

    def broken(*_: Any, **__: Any) -> None:
        raise DependencyError("store", "The store is out of reach.")

    monkeypatch.setattr(world.store, "upsert", broken)
    world.write("a.md", "Annual leave is 26 days.")
    with pytest.raises(DependencyError):
        world.sync()
    found = status(world)
    assert found.last_complete_scan is not None
    assert found.last_run is not None
    assert (found.last_complete_scan["age_seconds"], found.last_run["status"]) == (7200.0, "failed")
    assert "last complete scan: 2026-03-02 09:00:00 UTC, 2 h ago" in told(world)
    assert "last run: failed, 2026-03-02 11:00:00 UTC: The store is out of reach." in told(world)


def test_held_deletions_are_told_until_somebody_confirms_and_keep_the_scan_old(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.sync()
    world.remove("a.md")
    world.clock.advance(hours=1)
    assert world.sync().status == "held"
    found = status(world)
    assert found.last_complete_scan is not None
    assert (found.held, found.last_complete_scan["age_seconds"]) == (1, 3600.0)
    assert "1 documents are missing and not deleted; if they are gone for good: affinage index sync handbook --confirm-deletes" in told(
        world
    )
    world.sync(confirm_deletes=True)
    found = status(world)
    assert found.last_complete_scan is not None
    assert (found.held, found.last_complete_scan["age_seconds"]) == (0, 0.0)
    assert "missing" not in told(world)


def test_a_sync_is_due_from_the_hint_to_the_sync(world: World) -> None:
    world.sync()
    assert (status(world).sync_due, status(world).hinted_at) == (False, None)
    world.clock.advance(hours=1)
    with world.database.write() as connection:
        record_hint(connection, "handbook", now=world.clock())
    assert (status(world).sync_due, status(world).hinted_at) == (True, world.clock())
    assert "a sync is due: somebody said at 2026-03-02 10:00:00 UTC" in told(world)
    world.sync()
    assert (status(world).sync_due, status(world).hinted_at) == (False, None)


def test_what_a_killed_run_left_open_is_counted(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.sync()
    world.write("a.md", "Annual leave is 26 days.")
    assert world.crash(at="written")
    with world.database.read() as connection:
        left = len(connection.execute(select(intent)).all())
    assert status(world).open_intents == left > 0
    assert f"to settle by the next sync: {left} rows" in told(world)
    world.sync()
    assert status(world).open_intents == 0


def test_failures_are_told_with_reason_and_next_trial_and_a_long_list_is_cut_for_people_only(world: World) -> None:
    for n in range(FAILURES_SHOWN + 2):
        world.write(f"{n:02}.docx", "no zip")
    world.sync()
    found = status(world)
    assert found.states == {"failed": FAILURES_SHOWN + 2}
    assert len(found.failures) == FAILURES_SHOWN + 2
    assert f"00.docx: {found.failures[0]['message']} ({found.failures[0]['reason']}; tried again when it changes)" in told(world)
    assert "… and 2 more" in told(world)
    assert f"{FAILURES_SHOWN}.docx" not in told(world)


def test_a_run_is_told_in_one_line(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    seconds = world.sync().seconds
    with world.database.read() as connection:
        (run,) = list_runs(connection, limit=5)
    expected = "2026-03-02 09:00:00 UTC  handbook  sync  complete  {} s  1 seen, 1 added, 1 chunks embedded, 1 chunks written"
    assert run_line(run) == expected.format(seconds)
    switched = {**run, "action": "switch", "documents": None, "chunks": None, "generation": "g-2", "seconds": 0.5}
    assert run_line(switched) == "2026-03-02 09:00:00 UTC  handbook  switch  complete  0.5 s  generation g-2 serves"
