from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from affinage.declarations.model import RolloutSpec
from affinage.experiments.assignment import CANDIDATE, CONTROL, position
from affinage.experiments.operate import evaluate_experiment, stop_experiment
from affinage.experiments.routing import CHAMPION, RoutingTable, assign, earlier_arms, load_routing, record_exposure
from tests.unit.experiments.conftest import World


@given(unit=st.text(max_size=20))
def test_without_an_experiment_the_champion_serves(unit: str) -> None:
    assert assign(RoutingTable(), "appels", unit, {}) == CHAMPION


def test_the_arm_follows_the_position_of_the_unit(world: World) -> None:
    world.start()
    for i in range(50):
        _, drawn = world.ask(f"unit-{i}")
        expected = CANDIDATE if position(f"unit-{i}", experiment="tone-1") < 0.5 else CONTROL
        assert (drawn.arm, drawn.q) == (expected, 0.5)
        assert drawn.variant_id == (world.candidate if expected == CANDIDATE else world.control)


def test_anonymous_use_gets_control_and_leaves_no_trace(world: World) -> None:
    world.start()
    for unit in (None, ""):
        _, drawn = world.ask(unit)
        assert (drawn.arm, drawn.q, drawn.variant_id) == (CONTROL, 0.0, world.control)
    with world.database.read() as connection:
        assert earlier_arms(connection, experiment_id="tone-1", unit="") == {}


def test_an_exposure_is_stored_once_for_a_unit_and_stage(world: World) -> None:
    world.start()
    _, drawn = world.ask("unit-1")
    with world.database.write() as connection:
        assert not record_exposure(connection, assignment=drawn, unit="unit-1", answer_id="another", now=world.clock())
        assert earlier_arms(connection, experiment_id="tone-1", unit="unit-1") == {0: drawn.arm}


def test_a_replica_with_an_old_table_adds_no_earlier_stage(world: World) -> None:
    world.start(rollout=RolloutSpec(shares=(0.1, 0.5), min_units=0, min_days=0))
    with world.database.read() as connection:
        old = load_routing(connection)
    world.crowd(1, like=None)
    evaluate_experiment(world.database, experiment_id="tone-1", now=world.clock, new_id=world.new_id)
    _, drawn = world.ask("late")
    assert drawn.stage == 1
    with world.database.write() as connection:
        late = assign(old, "appels", "late", {})
        assert not record_exposure(connection, assignment=late, unit="late", answer_id="old", now=world.clock())


def test_a_returning_control_unit_is_drawn_conditionally(world: World) -> None:
    world.start(rollout=RolloutSpec(shares=(0.1, 0.5), min_units=0, min_days=0))
    arms = {f"unit-{i}": world.ask(f"unit-{i}")[1] for i in range(30)}
    answer_id, _ = world.ask("unit-0")
    world.rate(answer_id, True)
    evaluate_experiment(world.database, experiment_id="tone-1", now=world.clock, new_id=world.new_id)
    for unit, before in arms.items():
        _, after = world.ask(unit)
        assert after.stage == 1
        if before.arm == CANDIDATE:
            assert (after.arm, after.q) == (CANDIDATE, 1.0)
        else:
            assert after.q == (0.5 - 0.1) / (1 - 0.1)


def test_a_stopped_experiment_serves_the_champion_at_once(world: World) -> None:
    world.start()
    stop_experiment(world.database, experiment_id="tone-1", now=world.clock, new_id=world.new_id, actor="test")
    assert {world.ask(f"unit-{i}")[1] for i in range(10)} == {CHAMPION}


def test_a_pause_keeps_the_split(world: World) -> None:
    world.start()
    world.clock.advance(seconds=timedelta(days=1).total_seconds())
    done = evaluate_experiment(world.database, experiment_id="tone-1", now=world.clock, new_id=world.new_id)
    assert str(done.experiment.state) == "PAUSED"
    assert {world.ask(f"unit-{i}")[1].arm for i in range(30)} == {CANDIDATE, CONTROL}
