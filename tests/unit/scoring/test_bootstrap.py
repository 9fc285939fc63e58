"""The interval of a paired difference, checked on its promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from affinage.scoring.bootstrap import paired_cluster_bootstrap
from affinage.scoring.student import t_probability, t_quantile


def compare(control, candidate, clusters, seed=1, **options):
    return paired_cluster_bootstrap(control, candidate, clusters, rng=np.random.default_rng(seed), **options)


@pytest.mark.parametrize(
    # Abramowitz and Stegun, table 26.10: two-sided 5 %.
    ("freedom", "quantile"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042), (120, 1.980)],
)
def test_t_quantiles_are_those_of_the_table(freedom: int, quantile: float) -> None:
    assert t_quantile(0.975, freedom=freedom) == pytest.approx(quantile, abs=5e-4)
    assert t_quantile(0.025, freedom=freedom) == pytest.approx(-quantile, abs=5e-4)
    assert t_probability(quantile, freedom=freedom) == pytest.approx(0.975, abs=1e-4)


def test_t_refuses_what_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="degrees of freedom"):
        t_probability(0, freedom=0)
    with pytest.raises(ValueError, match="inside"):
        t_quantile(1.0, freedom=3)


def test_means_and_difference_are_over_items_not_over_clusters() -> None:
    found = compare([0, 0, 0, 1], [1, 1, 1, 1], ["a", "a", "a", "b"])
    assert (found.control, found.candidate, found.difference) == (0.25, 1.0, 0.75)
    assert (found.items, found.clusters) == (4, 2)


def test_few_clusters_get_at_least_students_interval() -> None:
    # Cluster differences 0.1, 0.2, 0.3 of equal size: mean 0.2, standard error 0.1/sqrt(3), t(2) = 4.3027.
    found = compare([0, 0, 0], [0.1, 0.2, 0.3], ["a", "b", "c"])
    assert found.lower == pytest.approx(0.2 - 4.30265 * 0.1 / math.sqrt(3), abs=1e-4)
    assert found.upper == pytest.approx(0.2 + 4.30265 * 0.1 / math.sqrt(3), abs=1e-4)


def test_items_of_one_cluster_do_not_count_as_independent() -> None:
    rng = np.random.default_rng(3)
    effects = rng.normal(0.1, 0.3, size=20)
    alone = compare(np.zeros(20), effects, [str(i) for i in range(20)])
    repeated = compare(np.zeros(400), np.repeat(effects, 20), [str(i) for i in range(20) for _ in range(20)])
    assert repeated.lower == pytest.approx(alone.lower, abs=0.02)
    wrongly = compare(np.zeros(400), np.repeat(effects, 20), [str(i) for i in range(400)])
    assert wrongly.lower > repeated.lower + 0.05


def test_an_item_that_cannot_be_scored_is_left_out_on_both_sides() -> None:
    found = compare([0, math.nan, 1, 0], [1, 1, math.nan, 1], ["a", "b", "c", "d"])
    assert (found.control, found.candidate, found.items, found.clusters) == (0.0, 1.0, 2, 2)


def test_no_items_say_nothing() -> None:
    found = compare([], [], [])
    assert math.isnan(found.difference)
    assert (found.lower, found.upper) == (-math.inf, math.inf)


def test_one_cluster_says_nothing_about_how_clusters_vary() -> None:
    found = compare([0, 0], [1, 1], ["a", "a"])
    assert found.difference == 1.0
    assert (found.lower, found.upper) == (-math.inf, math.inf)


def test_identical_systems_have_the_interval_zero() -> None:
    found = compare([0.3, 0.7, 0.1], [0.3, 0.7, 0.1], ["a", "b", "c"])
    assert (found.difference, found.lower, found.upper) == (0, 0, 0)


def test_the_same_rng_gives_the_same_interval() -> None:
    scores = np.random.default_rng(5).random((2, 30))
    names = [str(i % 10) for i in range(30)]
    assert compare(scores[0], scores[1], names) == compare(scores[0], scores[1], names)


def test_lengths_that_differ_are_a_mistake_of_the_programmer() -> None:
    with pytest.raises(ValueError, match="lengths differ"):
        compare([0], [1, 1], ["a", "b"])
    with pytest.raises(ValueError, match="confidence"):
        compare([0], [1], ["a"], confidence=1.0)


@pytest.mark.parametrize("clusters", [3, 5, 12])
def test_without_an_effect_the_lower_bound_is_rarely_above_zero(clusters: int) -> None:
    """The gate promises 2.5 %; 600 runs give a standard error of 0.6 %, so more than 4.5 % would be a broken promise."""
    rng = np.random.default_rng(clusters)
    names = [str(i % clusters) for i in range(clusters * 4)]
    passed = 0
    for _ in range(600):
        shared = rng.normal(0, 0.2, size=clusters)
        difference = rng.normal(0, 0.2, size=clusters * 4) + np.tile(shared, 4)
        passed += paired_cluster_bootstrap(np.zeros(clusters * 4), difference, names, rng=rng, draws=400).lower > 0
    assert passed / 600 <= 0.045


def test_a_clear_effect_is_seen_with_five_clusters() -> None:
    rng = np.random.default_rng(7)
    candidate = 0.5 + rng.normal(0, 0.1, size=40)
    assert compare(np.zeros(40), candidate, [str(i % 5) for i in range(40)]).lower > 0.3
