"""Which texts share a request, and how long a busy server is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.engines.batches import LONGEST_PAUSE_SECONDS, batches, pause_seconds


@given(sizes=st.lists(st.integers(1, 50)), budget=st.integers(1, 100), most=st.integers(1, 8))
def test_each_text_is_in_one_batch_and_no_batch_is_beyond_its_bounds(sizes: list[int], budget: int, most: int) -> None:
    made = list(batches(sizes, budget=budget, most=most))
    assert sorted(i for batch in made for i in batch) == list(range(len(sizes)))
    for batch in made:
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or max(sizes[i] for i in batch) * len(batch) <= budget
    flat = [sizes[i] for batch in made for i in batch]
    assert flat == sorted(flat)


def test_a_batch_counts_as_wide_as_its_longest_text() -> None:
    # 3 x 10 = 30 fits; a fourth text of 12 would make it 4 x 12 = 48. Two of 12 are 24, and 100 stands alone.
    assert list(batches([12, 10, 10, 100, 10, 12], budget=30, most=8)) == [[1, 2, 4], [0, 5], [3]]


def test_a_batch_of_no_text_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="most is 0"):
        list(batches([1], budget=1, most=0))


def test_pauses_double_up_to_a_bound() -> None:
    # Without jitter half of 0.5, 1, 2, 4, ... and of 30 seconds.
    assert [pause_seconds(attempt, asked=None, jitter=0) for attempt in (0, 1, 2, 3, 6, 1000)] == [0.25, 0.5, 1, 2, 15, 15]
    assert pause_seconds(9, asked=None, jitter=0.999) < LONGEST_PAUSE_SECONDS


@given(attempt=st.integers(0, 40), asked=st.floats(0, 1000), jitter=st.floats(0, 0.999))
def test_nobody_returns_before_the_server_asked_for(attempt: int, asked: float, jitter: float) -> None:
    assert pause_seconds(attempt, asked=asked, jitter=jitter) >= asked
