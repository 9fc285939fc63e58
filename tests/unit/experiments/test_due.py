"""A candidate that passed the gate meets users by itself, once, and only when nothing is in its way."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, update

from affinage.database.tables.registry import gate_result
from affinage.database.tables.registry import variant as variants
from affinage.experiments.due import due_candidates
from affinage.experiments.operate import stop_experiment
from affinage.registry.moves import move_champion, set_candidate
from tests.unit.experiments.conftest import World


def due(world: World) -> list[tuple[str, str]]:
    with world.database.read() as connection:
        return due_candidates(connection)


def judge(world: World, *, passed: bool) -> None:
    with world.database.write() as connection:
        values = {
            "gate_id": world.new_id(),
            "variant_id": world.candidate,
            "dataset_id": "d",
            "passed": passed,
            "reasons": [],
            "metrics": {},
        }
        connection.execute(insert(gate_result).values(**values, created_at=world.clock()))


def name(world: World, variant_id: str | None) -> None:
    world.clock.advance(seconds=1)
    with world.database.write() as connection:
        set_candidate(connection, assistant="appels", variant_id=variant_id, actor="t", reason="t", now=world.clock(), new_id=world.new_id)


def test_a_candidate_is_due_when_it_is_named_and_passed_the_gate(world: World) -> None:
    assert due(world) == []
    name(world, world.candidate)
    assert due(world) == []
    judge(world, passed=False)
    assert due(world) == []
    judge(world, passed=True)
    assert due(world) == [("appels", world.candidate)]
    name(world, None)
    assert due(world) == []


def test_a_candidate_is_tried_once(world: World) -> None:
    name(world, world.candidate)
    judge(world, passed=True)
    experiment = world.start()
    assert due(world) == []
    stop_experiment(world.database, experiment_id=experiment.experiment_id, now=world.clock, new_id=world.new_id, actor="t")
    assert due(world) == []


@pytest.mark.parametrize("change", [{"tainted": True}, {"countersignature": None}, {"adapter_task": "embedder"}])
def test_a_candidate_that_may_not_meet_users_is_not_due(world: World, change: dict[str, object]) -> None:
    name(world, world.candidate)
    judge(world, passed=True)
    with world.database.write() as connection:
        connection.execute(update(variants).where(variants.c.variant_id == world.candidate).values(**change))
    assert due(world) == []


def test_the_champion_is_not_compared_with_itself(world: World) -> None:
    name(world, world.candidate)
    judge(world, passed=True)
    with world.database.write() as connection:
        move_champion(connection, assistant="appels", to=world.candidate, actor="t", reason="t", now=world.clock(), new_id=world.new_id)
    assert due(world) == []
