from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from affinage.database.tables.feedback import feedback
from affinage.database.tables.registry import alias_move, serving_pointer
from affinage.declarations.model import RolloutSpec
from affinage.errors import ConflictError, RefusedError, UnknownObjectError, UsageError
from affinage.experiments import operate, promotion
from affinage.experiments.operate import evaluate_experiment, stop_experiment
from affinage.experiments.repository import find_live, get_experiment, list_decisions, transition
from affinage.experiments.start import start_experiment
from affinage.experiments.states import State
from affinage.experiments.status import experiment_status, lines_of
from affinage.registry.moves import move_champion, pointer_of
from affinage.registry.variants import save_variant
from affinage.telemetry import Metrics
from tests.unit.experiments.conftest import World, variant


def look(world: World, **more: Any) -> operate.Evaluation:
    return evaluate_experiment(world.database, experiment_id="tone-1", now=world.clock, new_id=world.new_id, **more)


def champion(world: World) -> str:
    with world.database.read() as connection:
        pointer = pointer_of(connection, "appels")
    assert pointer is not None
    return pointer.variant_id


def moves(world: World) -> int:
    with world.database.read() as connection:
        return int(connection.execute(select(func.count()).where(alias_move.c.kind == "promote")).scalar_one())


def test_a_start_leads_to_the_first_share_with_a_record_of_each_step(world: World) -> None:
    started = world.start()
    assert (started.state, started.share, started.control_variant) == (State.CANARY, 0.5, world.control)
    with world.database.read() as connection:
        path = [str(d.to_state) for d in list_decisions(connection, "tone-1")]
    assert path == ["VALIDATED", "LOADING", "WARM", "CANARY"]


def test_a_liked_candidate_becomes_the_champion(world: World) -> None:
    world.start()
    world.crowd(60, like="candidate")
    done = look(world)
    assert [step.to_state for step in done.steps] == [State.PROMOTING, State.PROMOTED]
    assert (done.experiment.state, champion(world)) == (State.PROMOTED, world.candidate)
    assert done.result is not None
    assert done.result.decision == "promote"


def test_a_disliked_candidate_is_rolled_back_and_the_champion_never_moves(world: World) -> None:
    world.start()
    world.crowd(60, like="control")
    done = look(world)
    assert [step.to_state for step in done.steps] == [State.ROLLING_BACK, State.ROLLED_BACK]
    assert (champion(world), moves(world)) == (world.control, 0)
    assert world.ask("unit-1")[1].experiment_id is None


def test_without_data_nothing_is_promoted(world: World) -> None:
    world.start()
    assert look(world).experiment.state is State.PAUSED
    world.clock.advance(days=400)
    assert look(world).steps == ()
    assert champion(world) == world.control


def test_data_ends_the_pause_and_decides(world: World) -> None:
    world.start()
    look(world)
    world.crowd(60, like="candidate")
    assert [step.to_state for step in look(world).steps] == [State.CANARY, State.PROMOTING, State.PROMOTED]


def test_looking_again_after_the_end_does_nothing(world: World) -> None:
    world.start()
    world.crowd(60, like="candidate")
    look(world)
    again = look(world)
    assert (again.steps, again.experiment.state, moves(world)) == ((), State.PROMOTED, 1)


def test_injected_moves_are_called_once(world: World) -> None:
    promoted: list[str] = []
    rolled_back: list[bool] = []
    world.start()
    world.crowd(60, like="candidate")
    look(world, promote=promoted.append, rollback=lambda: rolled_back.append(True))
    assert (promoted, rolled_back) == ([world.candidate], [])


class _Killed(BaseException):
    """Stands for the process dying."""


def dies_at(monkeypatch: pytest.MonkeyPatch, state: State) -> None:
    def dying(connection: Any, experiment: Any, to_state: State, **more: Any) -> Any:
        if to_state is state:
            raise _Killed
        return transition(connection, experiment, to_state, **more)

    for module in (operate, promotion):
        monkeypatch.setattr(module, "transition", dying)


@pytest.mark.parametrize("at", [State.PROMOTING, State.PROMOTED])
def test_a_crash_between_steps_never_promotes_twice(world: World, monkeypatch: pytest.MonkeyPatch, at: State) -> None:
    world.start()
    world.crowd(60, like="candidate")
    with monkeypatch.context() as patched:
        dies_at(patched, at)
        for _ in range(2):
            with pytest.raises(_Killed):
                look(world)
    assert moves(world) == (1 if at is State.PROMOTED else 0)
    done = look(world)
    assert (done.experiment.state, champion(world), moves(world)) == (State.PROMOTED, world.candidate, 1)


@pytest.mark.parametrize("at", [State.ROLLING_BACK, State.ROLLED_BACK])
def test_a_crash_while_rolling_back_is_finished_later(world: World, monkeypatch: pytest.MonkeyPatch, at: State) -> None:
    world.start()
    world.crowd(60, like="control")
    with monkeypatch.context() as patched:
        dies_at(patched, at)
        with pytest.raises(_Killed):
            look(world)
    # Once ROLLING_BACK is written, traffic is on the champion although the roll-back has not ended.
    assert (world.ask("unit-1")[1].experiment_id is None) == (at is State.ROLLED_BACK)
    assert look(world).experiment.state is State.ROLLED_BACK


def test_a_failed_move_leaves_the_promotion_to_be_finished(world: World) -> None:
    world.start()
    world.crowd(60, like="candidate")

    def failing(_variant_id: str) -> None:
        raise OSError("the registry is away")

    with pytest.raises(OSError, match="away"):
        look(world, promote=failing)
    assert {world.ask(f"unit-{i}")[1].arm for i in range(30)} == {"candidate", "control"}
    assert look(world).experiment.state is State.PROMOTED


def test_a_champion_moved_by_hand_ends_the_experiment(world: World) -> None:
    world.start()
    world.crowd(60, like="candidate")
    other = variant("o")
    with world.database.write() as connection:
        save_variant(connection, other, organisation="default", now=world.clock())
        move_champion(
            connection, assistant="appels", to=other.variant_id, actor="ada", reason="by hand", now=world.clock(), new_id=world.new_id
        )
    assert look(world).experiment.state is State.ABORTED
    assert champion(world) == other.variant_id


def test_a_champion_moved_by_hand_during_the_promotion_is_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.start()
    world.crowd(60, like="candidate")

    def dead(_variant_id: str) -> None:
        raise _Killed

    with pytest.raises(_Killed):
        look(world, promote=dead)
    other = variant("o")
    with world.database.write() as connection:
        save_variant(connection, other, organisation="default", now=world.clock())
        move_champion(
            connection, assistant="appels", to=other.variant_id, actor="ada", reason="by hand", now=world.clock(), new_id=world.new_id
        )
    assert look(world).experiment.state is State.ROLLED_BACK
    assert champion(world) == other.variant_id


def test_two_lookers_make_one_transition(world: World) -> None:
    world.start()
    with world.database.read() as connection:
        stale = get_experiment(connection, "tone-1")
    stop_experiment(world.database, experiment_id="tone-1", now=world.clock, new_id=world.new_id, actor="first")
    with pytest.raises(ConflictError, match="changed by somebody else"), world.database.write() as connection:
        transition(connection, stale, State.PAUSED, actor="second", inputs={}, now=world.clock(), new_id=world.new_id)


def test_the_share_rises_through_the_declared_ones(world: World) -> None:
    world.start(rollout=RolloutSpec(shares=(0.05, 0.25, 0.5), min_units=30, min_days=3))
    reached = []
    for day in range(4):
        world.crowd(10, like=None, first=10 * day)
        look(world)
        world.clock.advance(days=1)
        look(world)
        with world.database.read() as connection:
            reached.append(get_experiment(connection, "tone-1").share)
    assert reached == [0.25, 0.5, 0.5, 0.5]


def test_a_second_experiment_waits_for_the_first(world: World) -> None:
    world.start()
    with pytest.raises(ConflictError, match="already has experiment `tone-1`"):
        world.start(name="tone-2")


def test_a_name_is_used_once(world: World) -> None:
    world.start()
    stop_experiment(world.database, experiment_id="tone-1", now=world.clock, new_id=world.new_id, actor="test")
    with pytest.raises(ConflictError, match="already an experiment `tone-1`"):
        world.start()
    assert world.start(name=None).experiment_id == "appels-2"


def test_a_wrong_name_is_refused(world: World) -> None:
    with pytest.raises(UsageError, match="no name"):
        world.start(name="Ton à tester")


def test_an_adapter_that_did_not_pass_the_gate_is_refused(world: World) -> None:
    unsigned = variant("u", adapter=True)
    with world.database.write() as connection:
        save_variant(connection, unsigned, organisation="default", now=world.clock())
    with pytest.raises(RefusedError) as caught:
        start_experiment(
            world.database, assistant="appels", candidate=unsigned.variant_id, rollout=RolloutSpec(), now=world.clock, new_id=world.new_id
        )
    assert "countersigned" in caught.value.reasons[0]


def test_the_champion_is_no_candidate(world: World) -> None:
    with pytest.raises(RefusedError, match="is the champion"):
        start_experiment(
            world.database, assistant="appels", candidate=world.control, rollout=RolloutSpec(), now=world.clock, new_id=world.new_id
        )


def test_an_assistant_without_champion_says_what_to_do(world: World) -> None:
    lonely = variant("l", assistant="lonely")
    with world.database.write() as connection:
        save_variant(connection, lonely, organisation="default", now=world.clock())
    with pytest.raises(RefusedError, match="no champion") as caught:
        start_experiment(
            world.database, assistant="lonely", candidate=lonely.variant_id, rollout=RolloutSpec(), now=world.clock, new_id=world.new_id
        )
    assert "affinage ask lonely" in caught.value.hint


def test_what_was_declared_becomes_the_champion_when_nobody_chose_one(world: World) -> None:
    with world.database.write() as connection:
        connection.execute(delete(serving_pointer))
        connection.execute(delete(alias_move))
    world.ask("somebody")
    assert world.start().control_variant == world.control
    assert champion(world) == world.control
    world.crowd(60, like="candidate")
    assert look(world).experiment.state is State.PROMOTED


def test_a_candidate_that_cannot_be_loaded_ends_the_start(world: World) -> None:
    def broken(_variant_id: str) -> None:
        raise RefusedError("The probe failed.")

    with pytest.raises(RefusedError, match="probe"):
        world.start(warm=broken)
    with world.database.read() as connection:
        assert get_experiment(connection, "tone-1").state is State.ABORTED
        assert find_live(connection, "appels") is None


def test_stopping_twice_is_stopping_once(world: World) -> None:
    world.start()
    stop: Callable[[], Any] = lambda: stop_experiment(  # noqa: E731
        world.database, experiment_id="tone-1", now=world.clock, new_id=world.new_id, actor="test"
    )
    assert stop() == stop()


def test_an_unknown_experiment_is_named(world: World) -> None:
    with pytest.raises(UnknownObjectError, match="no experiment `tone-1`"):
        look(world)


def test_the_status_counts_units_by_arm(world: World) -> None:
    world.start()
    world.crowd(20, like="candidate")
    world.ask("silent")
    with world.database.read() as connection:
        status = experiment_status(connection, get_experiment(connection, "appels"), now=world.clock())
    control, candidate = status["arms"]
    assert control["exposures"] + candidate["exposures"] == 21
    assert control["rated"] + candidate["rated"] == 20
    assert (control["up"], candidate["up"]) == (0, candidate["rated"])
    assert (control["adapter"], candidate["adapter"]) == (None, "appels@0000000n")
    assert (status["state"], status["decision"]) == ("CANARY", "promote" if status["decided_at"] else "continue")
    assert any("candidate" in line for line in lines_of(status))


def test_what_comes_in_after_the_end_changes_no_status(world: World) -> None:
    world.start()
    late, _ = world.ask("late")
    world.crowd(60, like="candidate")
    look(world)
    with world.database.read() as connection:
        before = experiment_status(connection, get_experiment(connection, "tone-1"), now=world.clock())
    world.rate(late, False)
    world.clock.advance(days=30)
    with world.database.read() as connection:
        assert experiment_status(connection, get_experiment(connection, "tone-1"), now=world.clock()) == before
    assert before["arms"][1]["share"] == 1.0


def test_a_stopped_experiment_shows_the_evidence_it_was_stopped_with(world: World) -> None:
    world.start()
    look(world)  # pauses, for want of data, and records that
    world.crowd(4, like="candidate")
    stop_experiment(world.database, experiment_id="tone-1", now=world.clock, new_id=world.new_id, actor="test")
    with world.database.read() as connection:
        status = experiment_status(connection, get_experiment(connection, "tone-1"), now=world.clock())
    assert (status["state"], status["decision"], status["rated_units"]) == ("ABORTED", "continue", 4)


def test_forgetting_people_does_not_rewrite_a_verdict(world: World) -> None:
    world.start()
    world.crowd(60, like="candidate")
    look(world)
    with world.database.write() as connection:
        connection.execute(delete(feedback))
        status = experiment_status(connection, get_experiment(connection, "tone-1"), now=world.clock())
    assert (status["decision"], status["arms"][1]["rated"]) == ("promote", 0)
    assert next(test for test in status["tests"] if test["name"] == "benefit")["log_e"] > 2.99


def test_prometheus_sees_state_share_and_evidence(world: World) -> None:
    world.start()
    world.crowd(5, like="candidate")
    metrics = Metrics()
    look(world, metrics=metrics)
    value = metrics.registry.get_sample_value
    assert value("affinage_experiment_state", {"experiment": "tone-1", "state": "CANARY"}) == 1
    assert value("affinage_experiment_state", {"experiment": "tone-1", "state": "PROMOTED"}) == 0
    assert value("affinage_experiment_traffic_weight", {"experiment": "tone-1", "arm": "candidate"}) == 0.5
    assert value("affinage_experiment_log_e_value", {"experiment": "tone-1", "test": "benefit"}) is not None


def test_prometheus_sees_the_lift_and_its_bounds(world: World) -> None:
    world.start()
    world.crowd(60, like="candidate")
    metrics = Metrics()
    look(world, metrics=metrics)
    lower, estimate, upper = (
        metrics.registry.get_sample_value(f"affinage_experiment_lift_{bound}", {"experiment": "tone-1"}) or 0.0
        for bound in ("lower", "estimate", "upper")
    )
    assert 0 < lower < estimate <= upper
