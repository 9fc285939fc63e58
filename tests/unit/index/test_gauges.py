"""Gauges of the index come from the record of truth, also for who did not index."""

from __future__ import annotations

from affinage.index.gauges import set_index_gauges
from affinage.telemetry import Metrics
from tests.support.indexing import World


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"source": "handbook", **labels})


def test_another_process_shows_documents_and_the_last_good_run(world: World) -> None:
    world.allow(("**", ["everyone"]))
    world.write("a.md", "Leave is asked for in writing.")
    metrics = Metrics()
    set_index_gauges(world.database, metrics)
    assert value(metrics, "affinage_index_last_success_timestamp_seconds") is None
    world.sync()
    good_at = world.clock().timestamp()
    set_index_gauges(world.database, metrics)
    assert value(metrics, "affinage_index_documents", state="indexed") == 1
    assert value(metrics, "affinage_index_last_success_timestamp_seconds") == good_at
    world.clock.advance(hours=1)
    world.remove("a.md")
    world.sync(confirm_deletes=False)  # nothing is left: held until somebody confirms
    set_index_gauges(world.database, metrics)
    assert value(metrics, "affinage_index_last_success_timestamp_seconds") == good_at
