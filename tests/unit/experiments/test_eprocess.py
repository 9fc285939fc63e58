from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.experiments.eprocess import (
    LIFTS,
    RISKS,
    BadEventTest,
    PreferenceTest,
    RatingTest,
    RatioTest,
    p_value,
    preference_log_e,
    rating_factors,
)

RATINGS = st.tuples(st.booleans(), st.booleans(), st.floats(0.001, 0.999))


def by_hand(events: list[tuple[bool, bool, float]], *, sign: int) -> float:
    """The e-value as its definition reads: scalars, products, no logarithms."""
    weights = [math.exp(-((i / 80) ** 2) / (2 * 0.06**2)) for i in range(1, 21)]
    total = 0.0
    for i, weight in zip(range(1, 21), weights, strict=True):
        d, ups, seen, product = sign * i / 80, 10.0, 20.0, 1.0
        for candidate, up, q in events:
            p = ups / seen
            a = min(max(p - q * d, 0.001), 0.999)
            b = min(max(p + (1 - q) * d, 0.001), 0.999)
            m = q * b + (1 - q) * a
            own = b if candidate else a
            product *= own / m if up else (1 - own) / (1 - m)
            decay = 0.5 ** (1 / 500)
            ups, seen = decay * ups + up, decay * seen + 1
        total += weight / sum(weights) * product
    return total


def test_one_rating_has_the_derived_e_value() -> None:
    # p = 0.5, q = 0.5: b = 0.5 + d/2, m = 0.5, so a candidate-up multiplies by 1 + d: E = 1 + the mean lift of the prior.
    test = RatingTest()
    test.update(candidate=True, up=True, q=0.5)
    weights = [math.exp(-((i / 80) ** 2) / 0.0072) for i in range(1, 21)]
    mean_lift = sum(w * i / 80 for i, w in zip(range(1, 21), weights, strict=True)) / sum(weights)
    assert math.exp(test.benefit.log_e) == pytest.approx(1 + mean_lift, rel=1e-12)
    assert math.exp(test.harm.log_e) == pytest.approx(1 - mean_lift, rel=1e-12)


def test_four_ratings_equal_the_definition() -> None:
    events = [(True, True, 0.5), (False, False, 0.25), (False, True, 0.01), (True, False, 0.5)]
    test = RatingTest()
    for candidate, up, q in events:
        test.update(candidate=candidate, up=up, q=q)
    assert math.exp(test.benefit.log_e) == pytest.approx(by_hand(events, sign=1), rel=1e-12)
    assert math.exp(test.harm.log_e) == pytest.approx(by_hand(events, sign=-1), rel=1e-12)


@given(events=st.lists(RATINGS, max_size=30))
def test_any_ratings_equal_the_definition(events: list[tuple[bool, bool, float]]) -> None:
    test = RatingTest()
    for candidate, up, q in events:
        test.update(candidate=candidate, up=up, q=q)
    assert math.exp(test.benefit.log_e) == pytest.approx(by_hand(events, sign=1), rel=1e-9)
    assert math.exp(test.harm.log_e) == pytest.approx(by_hand(events, sign=-1), rel=1e-9)


@given(rate=st.floats(0.001, 0.999), q=st.floats(0.001, 0.999), up=st.booleans(), sign=st.sampled_from([1, -1]))
def test_factors_have_mean_one_when_the_arm_makes_no_difference(rate: float, q: float, up: bool, sign: int) -> None:
    factors = [rating_factors(rate, sign * LIFTS, candidate=arm, up=up, q=q) for arm in (True, False)]
    assert q * factors[0] + (1 - q) * factors[1] == pytest.approx(np.ones(20))


@pytest.mark.parametrize(("candidate", "q"), [(True, 1.0), (False, 0.0)])
def test_a_certain_assignment_is_no_evidence_but_tells_the_rate(candidate: bool, q: float) -> None:
    test = RatingTest()
    test.update(candidate=candidate, up=True, q=q)
    assert (test.benefit.log_e, test.harm.log_e) == (0, 0)
    assert test.rate > 0.5


def test_the_rate_forgets_with_a_half_life_of_500_ratings() -> None:
    test = RatingTest()
    for _ in range(20_000):
        test.update(candidate=False, up=True, q=0.0)
    for _ in range(500):
        test.update(candidate=False, up=False, q=0.0)
    assert test.rate == pytest.approx(0.5, abs=1e-3)


def test_the_maximum_is_kept_when_evidence_turns() -> None:
    test = RatingTest()
    for up in (True, True, False, False, False):
        test.update(candidate=True, up=up, q=0.5)
    assert test.benefit.max_log_e > 0 > test.benefit.log_e


def test_bad_events_have_the_derived_e_value() -> None:
    # P(candidate | bad) = q r / (q r + 1 - q); against q that is r / (q r + 1 - q), and 1 / (q r + 1 - q) for control.
    test = BadEventTest()
    test.update(candidate=True, q=0.1)
    test.update(candidate=False, q=0.5)
    expected = sum(r / (0.1 * r + 0.9) / (0.5 * r + 0.5) for r in RISKS) / len(RISKS)
    assert math.exp(test.harm.log_e) == pytest.approx(expected, rel=1e-12)


def test_risks_run_from_a_quarter_more_to_sixteen_times() -> None:
    assert (RISKS[0], RISKS[-1]) == (pytest.approx(1.25), pytest.approx(16))


def test_one_vote_has_the_derived_e_value() -> None:
    # 2 B(11, 10) / B(10, 10) = 2 * 10/20 = 1, times 2 P(Beta(11, 10) > 1/2) = 2 P(Bin(20, 1/2) <= 10) = 1 + C(20,10)/2^20.
    assert math.exp(preference_log_e(1, 0)) == pytest.approx(1 + math.comb(20, 10) / 2**20, rel=1e-12)


def test_votes_without_winner_start_at_one() -> None:
    assert preference_log_e(0, 0) == pytest.approx(0, abs=1e-12)


@given(wins=st.integers(0, 60), losses=st.integers(0, 60))
def test_votes_have_mean_one_when_both_answers_are_alike(wins: int, losses: int) -> None:
    after = (math.exp(preference_log_e(wins + 1, losses)) + math.exp(preference_log_e(wins, losses + 1))) / 2
    assert after == pytest.approx(math.exp(preference_log_e(wins, losses)), rel=1e-9)


def test_ties_are_counted_and_not_tested() -> None:
    test = PreferenceTest()
    test.update(value=0.5)
    assert (test.ties, test.benefit_log_e, test.harm_log_e) == (1, 0, 0)


def test_many_votes_stay_finite() -> None:
    assert preference_log_e(20_000, 19_000) > 3
    assert math.isfinite(preference_log_e(0, 20_000))


def test_draws_have_the_derived_ratio() -> None:
    # Prior 50 : 50 of 100. First draw 50/100 against 1/2: nothing. Second, same arm: 51/101 against 1/2.
    test = RatioTest()
    test.update(candidate=True, q=0.5)
    assert test.log_e == pytest.approx(0, abs=1e-15)
    test.update(candidate=True, q=0.5)
    assert test.log_e == pytest.approx(math.log(2 * 51 / 101), rel=1e-12)


def test_draws_with_another_probability_are_counted_apart() -> None:
    test = RatioTest()
    test.update(candidate=True, q=0.5)
    test.update(candidate=True, q=0.1)
    assert test.log_e == pytest.approx(0, abs=1e-15)


def test_broken_routing_is_noticed() -> None:
    test, rng = RatioTest(), np.random.default_rng(1)
    for candidate in rng.random(2000) < 0.4:
        test.update(candidate=bool(candidate), q=0.5)
    assert test.max_log_e >= math.log(1000)


def test_the_p_value_is_at_most_one() -> None:
    assert (p_value(-3.0), p_value(math.log(20))) == (1.0, pytest.approx(0.05))
