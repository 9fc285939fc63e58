from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from affinage.declarations.model import RolloutSpec
from affinage.experiments.evidence import read_evidence, replay_decision
from affinage.experiments.operate import evaluate_experiment
from affinage.experiments.repository import list_decisions
from affinage.experiments.status import first_ratings
from tests.unit.experiments.conftest import World


def test_exposures_and_ratings_come_in_the_order_in_which_they_were_stored(world: World) -> None:
    world.start()
    first, _ = world.ask("a")
    second, _ = world.ask("b")
    world.rate(second, True)
    world.rate(first, False)
    with world.database.read() as connection:
        events = read_evidence(connection, "tone-1")
    assert [(e.seq, e.unit, e.kind, e.value) for e in events] == [
        (1, "a", "exposure", 1.0),
        (2, "b", "exposure", 1.0),
        (3, "b", "rating", 1.0),
        (4, "a", "rating", 0.0),
    ]


def test_a_late_rating_counts_for_the_stage_of_its_answer(world: World) -> None:
    world.start(rollout=RolloutSpec(shares=(0.1, 0.5), min_units=0, min_days=0))
    early, drawn = world.ask("a")
    other, _ = world.ask("b")
    world.rate(other, True)
    evaluate_experiment(world.database, experiment_id="tone-1", now=world.clock, new_id=world.new_id)
    world.ask("a")
    world.rate(early, True)
    with world.database.read() as connection:
        late = read_evidence(connection, "tone-1")[-1]
    assert (late.unit, late.stage, late.q) == ("a", 0, drawn.q)


def test_a_second_rating_is_diagnostic(world: World) -> None:
    world.start()
    answer_id, _ = world.ask("a")
    world.rate(answer_id, True)
    world.rate(answer_id, False)
    with world.database.read() as connection:
        assert [e.value for e in first_ratings(read_evidence(connection, "tone-1"))] == [1.0]


def test_what_no_user_said_is_no_rating(world: World) -> None:
    world.start()
    answer_id, _ = world.ask("a")
    world.rate(answer_id, True, origin="import")
    anonymous, _ = world.ask(None)
    world.rate(anonymous, True)
    with world.database.read() as connection:
        assert first_ratings(read_evidence(connection, "tone-1")) == []


@pytest.mark.parametrize("like", ["candidate", "control"])
def test_a_decision_record_replays_to_the_same_figures_and_names_nobody(world: World, like: str) -> None:
    world.start()
    world.crowd(60, like=like)
    evaluate_experiment(world.database, experiment_id="tone-1", now=world.clock, new_id=world.new_id)
    with world.database.read() as connection:
        decision = next(d for d in list_decisions(connection, "tone-1") if "result" in d.inputs)
    stored = decision.inputs["result"]
    again = replay_decision(json.loads(json.dumps(decision.inputs)))
    assert (again.decision, again.decided_at) == (stored["decision"], stored["decided_at"])
    assert stored["decision"] in ("promote", "rollback")
    for test, kept in zip(again.tests, stored["tests"], strict=True):
        assert {k: asdict(test)[k] for k in ("log_e", "max_log_e", "threshold")} == pytest.approx(
            {k: kept[k] for k in ("log_e", "max_log_e", "threshold")}, abs=1e-9
        )
    assert "unit-" not in json.dumps(decision.inputs)
