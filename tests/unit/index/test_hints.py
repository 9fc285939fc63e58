"""A hint is answered by a sync that began after it, and by no other; many wait for one."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import func, select

from affinage.database.tables.index import index_run, source_hint
from affinage.errors import DependencyError
from affinage.index.hints import hinted_sources, record_hint
from affinage.index.leases import hold
from affinage.index.sync import sync_source
from affinage.index.upkeep import lease_name
from tests.support.indexing import World


def hint(world: World) -> bool:
    with world.database.write() as connection:
        return record_hint(connection, "handbook", now=world.clock())


def hinted(world: World) -> list[str]:
    with world.database.read() as connection:
        return hinted_sources(connection)


def runs(world: World) -> int:
    with world.database.read() as connection:
        return connection.execute(select(func.count()).select_from(index_run)).scalar_one()


def test_hints_wait_for_one_sync_and_only_the_first_is_written(world: World) -> None:
    assert hinted(world) == []
    world.sync()
    assert [hint(world) for _ in range(5)] == [True, False, False, False, False]
    assert hinted(world) == ["handbook"]
    world.sync()
    assert hinted(world) == []
    assert hint(world)
    with world.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(source_hint)).scalar_one() == 1
    assert hinted(world) == ["handbook"]


def test_a_source_that_was_never_synced_can_be_hinted(world: World) -> None:
    assert hint(world)
    assert hinted(world) == ["handbook"]
    world.sync()
    assert hinted(world) == []


def test_a_run_that_was_listing_already_does_not_answer(world: World) -> None:
    world.write("a.md", "text")

    def reached(step: str) -> None:
        if step == "surveyed":
            world.write("late.md", "what the listing missed")
            hint(world)

    sync_source(world.clients(reached=reached), "handbook")
    assert hinted(world) == ["handbook"]
    world.sync()
    assert hinted(world) == []


def test_a_run_that_failed_or_was_killed_does_not_answer(world: World) -> None:
    hint(world)
    world.declare(path=str(world.folder / "nowhere"))
    with pytest.raises(DependencyError):
        world.sync()
    assert hinted(world) == ["handbook"]
    world.declare()
    world.write("a.md", "text")
    assert world.crash(at="surveyed")
    assert hinted(world) == ["handbook"]
    world.sync()
    assert hinted(world) == []


def test_a_source_that_is_declared_no_longer_is_left_alone(world: World) -> None:
    from affinage.declarations.apply import apply_declarations
    from affinage.declarations.model import Declarations

    hint(world)
    with world.database.write() as connection:
        apply_declarations(connection, Declarations(), now=world.clock(), prune=True)
    assert hinted(world) == []


def test_twelve_runs_that_queued_behind_another_process_cause_one_sync(world: World) -> None:
    world.write("a.md", "text")
    waiting = threading.Semaphore(0)
    reports = []

    def queued() -> None:
        reports.append(sync_source(world.clients(progress=lambda _line: waiting.release()), "handbook"))

    threads = [threading.Thread(target=queued) for _ in range(12)]
    with hold(world.database, lease_name("handbook"), now=world.clock):
        for thread in threads:
            thread.start()
        for _ in threads:
            assert waiting.acquire(timeout=60), "each says that it waits"
    for thread in threads:
        thread.join(timeout=60)
    assert len(reports) == 12
    assert runs(world) == 1
    assert {report.run_id for report in reports} == {reports[0].run_id}
    assert reports[0].documents.added == 1
