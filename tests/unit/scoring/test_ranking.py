"""nDCG and recall: values derived by hand, then the cases at the edge."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.scoring.ndcg import ndcg_at_k
from affinage.scoring.recall import recall_at_k

ids = st.lists(st.sampled_from("abcdefgh"), unique=True)


def test_ndcg_discounts_by_the_logarithm_of_the_rank() -> None:
    # Relevant at ranks 2 and 3: 1/log2(3) + 1/log2(4) = 0.63093 + 0.5; the best order gives 1 + 0.63093.
    assert ndcg_at_k({"a", "b"}, ["x", "a", "b"], k=10) == pytest.approx(1.13093 / 1.63093, abs=1e-5)


def test_ndcg_of_a_perfect_order_is_one_even_when_more_is_relevant_than_fits() -> None:
    assert ndcg_at_k({"a", "b", "c"}, ["c", "a"], k=2) == 1.0


def test_ndcg_sees_nothing_below_k() -> None:
    assert ndcg_at_k({"a"}, ["x", "y", "a"], k=2) == 0.0


def test_recall_is_the_share_found() -> None:
    assert recall_at_k({"a", "b", "c", "d"}, ["a", "x", "b"], k=2) == 0.25
    assert recall_at_k({"a", "b", "c", "d"}, ["a", "x", "b"], k=3) == 0.5


@pytest.mark.parametrize("metric", [ndcg_at_k, recall_at_k])
def test_a_query_without_relevant_passages_cannot_be_scored(metric) -> None:
    assert math.isnan(metric(set(), ["a"], k=5))


@pytest.mark.parametrize("metric", [ndcg_at_k, recall_at_k])
def test_an_empty_ranking_scores_zero(metric) -> None:
    assert metric({"a"}, [], k=5) == 0.0


@pytest.mark.parametrize("metric", [ndcg_at_k, recall_at_k])
def test_k_below_one_is_a_mistake_of_the_programmer(metric) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        metric({"a"}, ["a"], k=0)


@given(ranked=ids, relevant=st.sets(st.sampled_from("abcdefgh"), min_size=1), k=st.integers(1, 9))
def test_both_lie_between_zero_and_one_and_moving_a_hit_up_never_lowers_ndcg(ranked, relevant, k) -> None:
    score = ndcg_at_k(relevant, ranked, k=k)
    assert 0 <= score <= 1 + 1e-12
    assert 0 <= recall_at_k(relevant, ranked, k=k) <= 1
    for i in range(1, len(ranked)):
        if ranked[i] in relevant and ranked[i - 1] not in relevant:
            better = [*ranked[: i - 1], ranked[i], ranked[i - 1], *ranked[i + 1 :]]
            assert ndcg_at_k(relevant, better, k=k) >= score - 1e-12
