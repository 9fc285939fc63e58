from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from affinage.experiments.policy import SILENCE, Situation, next_step
from affinage.experiments.replay import ReplayResult, replay
from affinage.experiments.states import State

EMPTY = replay([])


def deciding(decision: str) -> ReplayResult:
    return replace(EMPTY, decision=decision, reason="because")


def with_test(name: str, **values: float) -> ReplayResult:
    return replace(EMPTY, tests=tuple(replace(test, **values) if test.name == name else test for test in EMPTY.tests))


NORMAL = Situation(
    state=State.CANARY,
    stage=0,
    shares=(0.01, 0.05, 0.25, 0.5),
    result=EMPTY,
    stage_rated=10,
    stage_elapsed=timedelta(days=1),
    silence=timedelta(hours=1),
    min_units=300,
    min_days=7,
)


def to_state(situation: Situation) -> State | None:
    step = next_step(situation)
    return None if step is None else step.to_state


def test_nothing_happens_while_the_evidence_is_open() -> None:
    assert next_step(NORMAL) is None


@pytest.mark.parametrize(
    ("decision", "state"), [("promote", State.PROMOTING), ("rollback", State.ROLLING_BACK), ("keep", State.KEPT_CONTROL)]
)
def test_a_decision_is_carried_out(decision: str, state: State) -> None:
    assert to_state(replace(NORMAL, result=deciding(decision))) is state


@pytest.mark.parametrize("silence", [None, SILENCE + timedelta(seconds=1)])
def test_no_data_pauses_and_never_promotes(silence: timedelta | None) -> None:
    quiet = replace(NORMAL, silence=silence, result=deciding("promote"))
    assert to_state(quiet) is State.PAUSED
    assert to_state(replace(quiet, state=State.PAUSED)) is None


def test_harm_is_acted_on_without_fresh_data() -> None:
    assert to_state(replace(NORMAL, silence=None, result=deciding("rollback"))) is State.ROLLING_BACK


def test_a_pause_ends_at_the_share_it_had() -> None:
    assert to_state(replace(NORMAL, state=State.PAUSED)) is State.CANARY
    step = next_step(replace(NORMAL, state=State.PAUSED, stage=2))
    assert step is not None
    assert (step.to_state, step.stage) == (State.RAMP, 2)


def test_arms_out_of_ratio_pause_until_somebody_ends_it() -> None:
    broken = replace(NORMAL, result=with_test("sample_ratio", max_log_e=7.0))
    assert to_state(broken) is State.PAUSED
    assert to_state(replace(broken, state=State.PAUSED)) is None


def test_a_move_by_hand_ends_the_experiment() -> None:
    assert to_state(replace(NORMAL, overridden=True, result=deciding("promote"))) is State.ABORTED


def test_the_share_rises_when_a_stage_has_its_part_of_units_and_days() -> None:
    ready = replace(NORMAL, stage_rated=75, stage_elapsed=timedelta(days=1.75))
    step = next_step(ready)
    assert step is not None
    assert (step.to_state, step.stage) == (State.RAMP, 1)
    assert next_step(replace(ready, stage_rated=74)) is None
    assert next_step(replace(ready, stage_elapsed=timedelta(days=1.74))) is None


def test_the_share_does_not_rise_while_harm_is_in_sight() -> None:
    ready = replace(NORMAL, stage_rated=500, stage_elapsed=timedelta(days=9), result=with_test("harm", log_e=1.2))
    assert next_step(ready) is None


def test_the_last_share_stays() -> None:
    assert next_step(replace(NORMAL, state=State.RAMP, stage=3, stage_rated=500, stage_elapsed=timedelta(days=9))) is None
