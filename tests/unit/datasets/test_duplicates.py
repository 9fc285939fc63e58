from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from affinage.datasets.duplicates import shingles, similar_pairs, similarity


def test_similarity_is_counted_by_hand() -> None:
    # Ten words have six shingles; changing the last word changes one of them: 5 shared of 7.
    assert similarity("a b c d e f g h i j", "a b c d e f g h i k") == 5 / 7


def test_short_texts_are_alike_only_when_equal() -> None:
    assert similarity("How long?", "how  LONG") == 1
    assert similarity("How long?", "How far?") == 0


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), min_size=0, max_size=14).map(" ".join), max_size=25), st.sampled_from([0.3, 0.5, 0.8, 1.0])
)
@settings(max_examples=100, deadline=None)
def test_all_pairs_and_only_those_are_found(texts: list[str], threshold: float) -> None:
    sets = [shingles(text) for text in texts]
    expected = [
        (i, j) for i in range(len(texts)) for j in range(i + 1, len(texts)) if len(sets[i] & sets[j]) >= threshold * len(sets[i] | sets[j])
    ]
    assert similar_pairs(texts, threshold=threshold) == expected
