from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from affinage.feedback.effective import KINDS, effective
from tests.support.answers import AT


def row(number: int, **said: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(KINDS)
    base = {"feedback_id": f"f{number:03d}", "answer_id": "a1", "user_name": "alice", "reasons": [], "origin": "user"}
    return {**nothing, **base, "created_at": AT + timedelta(seconds=number), **said}


def test_the_latest_of_each_kind_counts() -> None:
    said = effective(
        [row(1, rating="up", comment="fine"), row(2, rating="down", reasons=["tone"]), row(3, correction="No."), row(4, correction="Yes.")]
    )[("alice", "a1")]
    assert (said.rating, said.reasons, said.comment, said.correction) == ("down", ("tone",), "fine", "Yes.")
    assert said.feedback_ids == {"rating": "f002", "comment": "f001", "correction": "f004"}


def test_a_regeneration_does_not_supersede_a_rating() -> None:
    said = effective([row(1, rating="up"), row(2, origin="regeneration")])[("alice", "a1")]
    assert (said.rating, said.regenerated) == ("up", True)


def test_users_and_answers_are_apart() -> None:
    said = effective([row(1, rating="up"), row(2, rating="down", user_name="bob"), row(3, rating="down", answer_id="a2")])
    assert {key: one.rating for key, one in said.items()} == {("alice", "a1"): "up", ("bob", "a1"): "down", ("alice", "a2"): "down"}


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["up", "down", None]), st.sampled_from(["x", "y", None])), max_size=8),
    st.randoms(),
)
def test_the_order_in_which_rows_are_read_does_not_matter(said: list[tuple[int, str | None, str | None]], rng: Any) -> None:
    rows = [
        {**row(n, rating=rating, correction=text), "created_at": AT + timedelta(seconds=second)}
        for n, (second, rating, text) in enumerate(said)
    ]
    shuffled = list(rows)
    rng.shuffle(shuffled)
    assert effective(rows) == effective(shuffled)
