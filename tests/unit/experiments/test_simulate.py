from __future__ import annotations

import math

import numpy as np
import pytest

from affinage.errors import UsageError
from affinage.experiments.events import Event
from affinage.experiments.replay import replay
from affinage.experiments.scenarios import SCENARIOS, make_streams, resolve_scenario
from affinage.experiments.simulate import CONTINUE, PROMOTE, ROLLBACK, decide, simulate

NAMES = [scenario.name for scenario in SCENARIOS]
WORDS = {CONTINUE: "continue", PROMOTE: "promote", ROLLBACK: "rollback"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("effect", [0.0, 0.3, -0.3])
def test_the_fast_arithmetic_decides_as_the_replay_does(name: str, effect: float) -> None:
    streams = make_streams(resolve_scenario(name), np.random.default_rng(5), runs=3, ratings=240, effect=effect)
    verdicts, at = decide(streams, alpha=0.05, alpha_harm=0.10)
    for run in range(3):
        events = []
        for t in range(streams.q.shape[1]):
            q, arm = float(streams.q[run, t]), "candidate" if streams.candidate[run, t] else "control"
            if streams.counted[run, t]:
                events.append(Event(2 * t, f"u{t}", arm, q, "rating", float(streams.up[run, t])))
            if streams.bad is not None and streams.bad[run, t]:
                events.append(Event(2 * t + 1, f"u{t}", arm, q, "bad", 1.0))
        result = replay(events)
        assert result.decision == WORDS[int(verdicts[run])]
        if result.decided_at is not None:
            counted = int(streams.counted[run, : result.decided_at // 2 + 1].sum())
            assert counted == at[run]


@pytest.mark.parametrize("name", NAMES)
def test_false_promotions_stay_below_alpha(name: str) -> None:
    runs = 400
    # Three standard errors of 400 runs above 0.05; the full counts are below.
    assert (simulate(name, runs=runs, seed=11, ratings=1600).false_positive_rate or 0) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_false_promotions_stay_below_alpha_in_2000_runs(name: str) -> None:
    assert (simulate(name, runs=2000, seed=12).false_positive_rate or 0) <= 0.065


@pytest.mark.parametrize("name", ["constant", "drift-with-ramp", "closed-population"])
def test_a_worse_candidate_is_practically_never_promoted(name: str) -> None:
    result = simulate(name, runs=300, seed=3, effect=-0.1)
    assert result.promoted <= 3
    assert result.rolled_back > 150


def test_a_large_effect_is_decided_within_80_ratings() -> None:
    result = simulate("constant", runs=300, seed=4, effect=-0.5)
    assert result.rolled_back == 300
    assert result.median_rated is not None
    assert result.median_rated <= 80


def test_a_better_candidate_is_promoted() -> None:
    # 0.70 against 0.80 at a share of one half.
    assert simulate("constant", runs=200, seed=5, effect=0.1).promoted >= 190


def test_an_effect_above_zero_has_no_false_positives_to_count() -> None:
    assert simulate("constant", runs=5, seed=5, effect=0.1, ratings=20).false_positive_rate is None


def test_the_seed_fixes_the_figures() -> None:
    assert simulate("drift", runs=30, seed=7, ratings=300) == simulate("drift", runs=30, seed=7, ratings=300)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("constant", "constant"),
        ("drift", "drift"),
        ("daily cycle", "daily-cycle"),
        ("daily", "daily-cycle"),
        ("drift with ramp", "drift-with-ramp"),
        ("drift_ramp", "drift-with-ramp"),
        ("1 % share", "one-percent-share"),
        ("1%-share", "one-percent-share"),
        ("changed response rate", "changed-response-rate"),
        ("Closed Population", "closed-population"),
    ],
)
def test_scenarios_are_found_by_their_words(given: str, name: str) -> None:
    assert resolve_scenario(given).name == name


@pytest.mark.parametrize("given", ["", "weather", "rate-x"])
def test_an_unknown_scenario_is_refused_with_the_list(given: str) -> None:
    with pytest.raises(UsageError, match="no scenario") as caught:
        resolve_scenario(given)
    assert "closed-population" in caught.value.hint
