"""Metrics of the index come from the record of truth, also for who did not index."""

from __future__ import annotations

import pytest

from affinage.errors import DependencyError
from affinage.index.metrics import IndexMetrics
from affinage.telemetry import Metrics
from tests.support.indexing import World


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"source": "handbook", **labels})


def test_another_process_shows_documents_and_the_last_good_run(world: World) -> None:
    world.allow(("**", ["everyone"]))
    world.write("a.md", "Leave is asked for in writing.")
    metrics = Metrics()
    shown = IndexMetrics(world.database, metrics)
    shown.refresh()
    assert value(metrics, "affinage_index_last_success_timestamp_seconds") is None
    world.sync()
    good_at = world.clock().timestamp()
    shown.refresh()
    assert value(metrics, "affinage_index_documents", state="indexed") == 1
    assert value(metrics, "affinage_index_last_success_timestamp_seconds") == good_at
    world.clock.advance(hours=1)
    world.remove("a.md")
    world.sync(confirm_deletes=False)  # nothing is left: held until somebody confirms
    shown.refresh()
    assert value(metrics, "affinage_index_last_success_timestamp_seconds") == good_at


def test_held_deletions_are_shown_until_they_are_confirmed_also_by_a_run_that_failed_since(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.allow(("**", ["everyone"]))
    world.write("a.md", "Leave is asked for in writing.")
    metrics = Metrics()
    shown = IndexMetrics(world.database, metrics)

    def held() -> float | None:
        shown.refresh()
        return value(metrics, "affinage_index_held_documents")

    assert held() == 0, "the series is there before anything is held"
    world.sync()
    assert held() == 0
    world.remove("a.md")
    world.sync()
    assert held() == 1
    with monkeypatch.context() as broken:
        broken.setattr("affinage.index.sync.survey", _unreachable)
        with pytest.raises(DependencyError):
            world.sync()
    assert held() == 1
    world.sync(confirm_deletes=True)
    assert held() == 0


def _unreachable(*_: object, **__: object) -> None:
    raise DependencyError("source", "The folder is out of reach.")


def test_another_process_counts_what_each_run_embedded_and_how_long_it_took(world: World) -> None:
    world.allow(("**", ["everyone"]))
    world.write("a.md", "Leave is asked for in writing.")
    world.sync()
    metrics = Metrics()
    shown = IndexMetrics(world.database, metrics)
    shown.refresh()
    # The run before the first look is not its own; the series begin at 0, so that the first increase is seen.
    assert value(metrics, "affinage_index_embedded_chunks_total") == 0
    assert value(metrics, "affinage_index_sync_duration_seconds_count") == 0
    seconds = 0.0
    for name in ("b.md", "c.md"):
        world.clock.advance(hours=1)
        world.write(name, f"Another rule, in {name}.")
        seconds += world.sync().seconds
    for _ in range(2):  # once, however often one looks
        shown.refresh()
        assert value(metrics, "affinage_index_embedded_chunks_total") == 2
        assert value(metrics, "affinage_index_sync_duration_seconds_count") == 2
        assert value(metrics, "affinage_index_sync_duration_seconds_sum") == pytest.approx(seconds)
    world.clock.advance(hours=1)
    world.sync()  # nothing changed
    shown.refresh()
    assert value(metrics, "affinage_index_embedded_chunks_total") == 2
    assert value(metrics, "affinage_index_sync_duration_seconds_count") == 3
