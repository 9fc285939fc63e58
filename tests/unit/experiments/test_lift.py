from __future__ import annotations

import numpy as np
import pytest

from affinage.experiments.lift import MIN_RATINGS, LiftEstimate


def fed(rng: np.random.Generator, n: int, *, control: float, candidate: float, q: float) -> list[tuple[bool, bool, float]]:
    arms = rng.random(n) < q
    return [(bool(arm), bool(rng.random() < (candidate if arm else control)), q) for arm in arms]


def test_the_weighted_mean_is_the_derived_one() -> None:
    # At q = 0.5 and a rate of 0.5 a candidate-up weighs (1 - .5)(1 - .5)/.25 = 1, a control-up -1, downs the opposite.
    estimate = LiftEstimate()
    for i in range(40):
        estimate.update(candidate=i % 2 == 0, up=i % 4 == 0, q=0.5, rate=0.5)
    # Ten candidate-ups (+1), ten candidate-downs (-1), twenty control-downs (+1): 20 / 40.
    lift = estimate.interval(alpha=0.05)
    assert lift is not None
    assert lift.estimate == pytest.approx(0.5)
    assert lift.lower < 0.5 < lift.upper <= 1


def test_few_ratings_and_certain_assignments_give_no_interval() -> None:
    estimate = LiftEstimate()
    for _ in range(MIN_RATINGS - 1):
        estimate.update(candidate=True, up=True, q=0.5, rate=0.4)
    for _ in range(100):
        estimate.update(candidate=True, up=True, q=1.0, rate=0.4)
    assert estimate.interval(alpha=0.05) is None


@pytest.mark.parametrize(("q", "effect"), [(0.5, 0.1), (0.1, 0.0), (0.25, -0.2)])
def test_the_interval_covers_the_lift_at_every_look(q: float, effect: float) -> None:
    rng, runs, missed = np.random.default_rng(8), 200, 0
    for _ in range(runs):
        estimate = LiftEstimate()
        for i, (candidate, up, share) in enumerate(fed(rng, 400, control=0.6, candidate=0.6 + effect, q=q)):
            estimate.update(candidate=candidate, up=up, q=share, rate=0.6)
            lift = estimate.interval(alpha=0.05) if i % 10 == 0 else None
            if lift is not None and not lift.lower <= effect <= lift.upper:
                missed += 1
                break
    # Three standard errors of 200 runs above 0.05.
    assert missed / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
