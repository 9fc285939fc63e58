"""The history of runs, and what is learnt from it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import select, update

from affinage.database.tables.index import index_run
from affinage.errors import DependencyError, UnknownObjectError
from affinage.index.generations import build_generation, rollback, switch
from affinage.index.metering import MeteredEmbedder
from affinage.index.preview import TOKENS_PER_SECOND, preview
from affinage.index.reports import Embedded, SyncReport
from affinage.index.runs import Saved, characters_per_second, list_runs, saved_by_reuse
from affinage.index.sources import sync_sources
from tests.support.embedders import HashEmbedder
from tests.support.indexing import World


def runs(world: World, source: str | None = "handbook", *, limit: int = 20) -> list[dict[str, Any]]:
    with world.database.read() as connection:
        return list_runs(connection, source, limit=limit)


def rewrite(world: World, run_id: str, **report: Any) -> None:
    """Change keys of a recorded report; None removes one."""
    with world.database.write() as connection:
        stored = connection.execute(select(index_run.c.report).where(index_run.c.run_id == run_id)).scalar_one()
        kept = {key: value for key, value in {**stored, **report}.items() if value is not None}
        connection.execute(update(index_run).where(index_run.c.run_id == run_id).values(report=kept))


def rate(world: World, source: str = "handbook", *, embedder: str = "hash-1-64") -> float | None:
    with world.database.read() as connection:
        return characters_per_second(connection, source, embedder=embedder)


def saved(world: World) -> Saved:
    with world.database.read() as connection:
        return saved_by_reuse(connection, "handbook")


def test_runs_are_listed_newest_first_with_switches_and_failures(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    first = world.sync()
    world.embedders["tuned"] = HashEmbedder(version="tuned")
    built = build_generation(world.clients(), "handbook", embedder={"name": "tuned", "adapter": None})
    for action in (switch, rollback):
        world.clock.advance(minutes=1)
        action(world.clients(), "handbook")
    world.clock.advance(minutes=1)

    def broken(*_: Any, **__: Any) -> None:
        raise DependencyError("store", "The store is out of reach.")

    monkeypatch.setattr(world.store, "upsert", broken)
    world.write("b.md", "Pay day is the 28th.")
    with pytest.raises(DependencyError):
        world.sync()

    failed, back, there, sync = runs(world)
    assert (failed["action"], failed["status"], failed["error"]["message"]) == ("sync", "failed", "The store is out of reach.")
    assert [(run["action"], run["status"]) for run in (back, there, sync)] == [
        ("rollback", "complete"), ("switch", "complete"), ("sync", "complete")
    ]  # fmt: skip
    assert (there["generation"], back["previous"]) == (built.generation_id, built.generation_id)
    assert (sync["run_id"], sync["documents"]["added"], sync["chunks"]["embedded"], sync["seconds"]) == (first.run_id, 1, 1, first.seconds)
    assert [run["run_id"] for run in runs(world, limit=2)] == [failed["run_id"], back["run_id"]]
    assert runs(world, None) == [failed, back, there, sync]


def test_a_source_that_nobody_declared_has_no_history(world: World) -> None:
    assert runs(world) == []
    with pytest.raises(UnknownObjectError):
        runs(world, "nowhere")


def test_a_run_records_what_went_through_the_embedder_and_only_that(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    report = world.sync()
    # The text that is embedded starts with its heading path, here the document's name.
    assert (report.embedding.embedder, report.embedding.texts) == ("hash-1-64", 1)
    assert report.embedding.characters == sum(map(len, world.embedder.embedded))
    assert world.sync().embedding == Embedded()


def test_the_meter_takes_the_time_of_each_call() -> None:
    ticks = iter([0.0, 2.0, 10.0, 13.0])
    work = Embedded()
    metered = MeteredEmbedder(HashEmbedder(), work, timer=lambda: next(ticks))
    metered.embed(["ab", "cde"])
    metered.embed(["f"])
    assert work == Embedded("hash-1-64", 3, 6, 5.0)


def test_the_rate_is_that_of_the_last_runs_with_this_embedder(world: World) -> None:
    assert rate(world) is None
    for n, (characters, seconds) in enumerate([(9_999, 0.1), (100, 1.0), (100, 1.0), (100, 1.0), (100, 1.0), (600, 5.0)]):
        world.clock.advance(hours=1)
        world.write("a.md", f"Annual leave is {n} days.")
        rewrite(world, world.sync().run_id, embedding={"embedder": "hash-1-64", "texts": 1, "characters": characters, "seconds": seconds})
        world.clock.advance(hours=1)
        world.sync()  # nothing changed: tells nothing of a rate
    # The first is the sixth from the end: 1,000 characters in 9 s.
    assert rate(world) == pytest.approx(1000 / 9)
    assert rate(world, embedder="hash-2-64") is None, "another embedder has another speed"
    assert rate(world, "wiki") == pytest.approx(1000 / 9), "a new source with this embedder learns from the others"


def test_a_dry_run_estimates_with_the_rate_that_was_measured(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    guessed = preview(world.clients(), "handbook")
    assert guessed.estimated_seconds == round(guessed.seconds + (guessed.tokens or 0) / TOKENS_PER_SECOND, 1)
    run = world.sync()
    rewrite(world, run.run_id, embedding={"embedder": "hash-1-64", "texts": 1, "characters": 10, "seconds": 100.0})
    world.write("a.md", "Annual leave is 26 days.")
    measured = preview(world.clients(), "handbook")
    world.sync()
    # A tenth of a character a second.
    assert measured.estimated_seconds == round(measured.seconds + 10 * len(world.embedder.embedded[-1]), 1)
    nothing = preview(world.clients(), "handbook")
    assert (nothing.tokens, nothing.estimated_seconds) == (0, round(nothing.seconds, 1))


def test_a_dry_run_costs_what_its_tokens_cost_and_nothing_by_default(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    free = sync_sources(world.clients(), dry_run=True)
    assert free.as_dict()["cost"] == 0
    paid = sync_sources(world.clients(), dry_run=True, price_per_million_tokens=2_000_000.0)
    assert paid.cost == 2 * (paid.tokens or 0) > 0
    assert "cost" not in world.sync().as_dict()


def test_what_reuse_saved_is_summed_up_and_no_more_than_is_known(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.write("b.md", "Pay day is the 28th.")
    old = world.sync()
    both = sum((world.docs / name).stat().st_size for name in ("a.md", "b.md"))
    deadline = time.monotonic() + 30
    # A signature is trusted once it is older than the clock's grain.
    while (settled := world.sync()).bytes_not_read != both:
        assert settled.bytes_not_read in {0, *(file.stat().st_size for file in world.docs.iterdir())}
        assert time.monotonic() < deadline
    before = saved(world)
    assert before.vectors == 0
    world.write("c.md", "Annual leave is 25 days.")
    again = world.sync()
    assert (again.chunks.embedded, again.chunks.reused) == (0, 1), "the same text is in a.md"
    assert saved(world) == Saved(before.runs + 1, 1, before.bytes_not_read + both, before.bytes_known_since)
    rewrite(world, old.run_id, bytes_not_read=None)  # as a version wrote it that did not know
    assert saved(world).bytes_not_read == before.bytes_not_read + both


def test_a_report_of_an_earlier_version_is_still_read() -> None:
    stored = SyncReport("r-1", embedding=Embedded("e", 1, 2, 3.0)).as_dict()
    assert SyncReport.from_dict(stored).as_dict() == stored
    del stored["embedding"], stored["bytes_not_read"]
    assert SyncReport.from_dict(stored) == SyncReport("r-1")


def test_the_sum_of_several_sources_names_no_embedder_when_there_were_two() -> None:
    one, other, none = (SyncReport("r", embedding=work) for work in (Embedded("a", 1, 10, 1.0), Embedded("b", 2, 20, 2.0), Embedded()))
    assert SyncReport.total([one, none], run_id="r").embedding == Embedded("a", 1, 10, 1.0)
    assert SyncReport.total([none, one], run_id="r").embedding == Embedded("a", 1, 10, 1.0)
    assert SyncReport.total([one, other], run_id="r").embedding == Embedded(None, 3, 30, 3.0)
