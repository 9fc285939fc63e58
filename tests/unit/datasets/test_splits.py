from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from affinage.datasets.duplicates import similar_pairs
from affinage.datasets.rows import Split
from affinage.datasets.splits import FRACTIONS, SIMILAR, Splittable, divide, group_ids

WORDS = ("delay", "office", "permit", "tax", "school", "water")


def row(number: int, user: int | None, documents: Sequence[int], words: Sequence[str]) -> Splittable:
    return Splittable(f"e{number}", None if user is None else f"user{user}", tuple(f"d{d}" for d in documents), " ".join(words))


numbered = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 12)),
        st.lists(st.integers(0, 12), max_size=2),
        st.lists(st.sampled_from(WORDS), min_size=4, max_size=9),
    ),
    max_size=40,
)


def rows_from(drawn: list[tuple[int | None, list[int], list[str]]], first: int = 0) -> list[Splittable]:
    return [row(first + n, *one) for n, one in enumerate(drawn)]


def components(rows: Sequence[Splittable]) -> list[set[str]]:
    """Connected components by a plain search, as an independent check."""
    links: dict[str, set[str]] = defaultdict(set)
    by_group: dict[str, list[str]] = defaultdict(list)
    for one in rows:
        links[one.example_id] |= {one.example_id}
        for group in ([f"u:{one.user}"] if one.user is not None else []) + [f"d:{key}" for key in one.doc_keys]:
            by_group[group].append(one.example_id)
    for members in by_group.values():
        for member in members:
            links[member] |= set(members)
    for i, j in similar_pairs([one.question for one in rows], threshold=SIMILAR):
        links[rows[i].example_id].add(rows[j].example_id)
        links[rows[j].example_id].add(rows[i].example_id)
    found, seen = [], set()
    for start in links:
        if start in seen:
            continue
        reached, todo = {start}, [start]
        while todo:
            for other in links[todo.pop()] - reached:
                reached.add(other)
                todo.append(other)
        seen |= reached
        found.append(reached)
    return found


@given(numbered)
@settings(max_examples=150, deadline=None)
def test_no_component_lies_on_two_sides(drawn: list[tuple[int | None, list[int], list[str]]]) -> None:
    rows = rows_from(drawn)
    division = divide(rows, stored={})
    kept = [one for one in rows if one.example_id in division.side_of]
    assert {one.example_id for one in rows} == set(division.side_of) | set(division.dropped)
    for component in components(kept):
        assert len({division.side_of[example] for example in component}) == 1


@given(numbered, numbered, numbered)
@settings(max_examples=150, deadline=None)
def test_adding_rows_never_moves_a_row(first: list, second: list, third: list) -> None:  # type: ignore[type-arg]
    stored: dict[str, Split] = {}
    rows: list[Splittable] = []
    sides: dict[str, Split] = {}
    for drawn in (first, second, third):
        rows += rows_from(drawn, first=len(rows))
        division = divide(rows, stored=stored)
        # Whoever was on a side before is on it still: rows may be new or dropped, never moved, and never newly dropped.
        assert {example: division.side_of.get(example) for example in sides} == sides
        assert all(stored.get(group, side) == side for group, side in division.sides.items())
        kept = [one for one in rows if one.example_id in division.side_of]
        for component in components(kept):
            assert len({division.side_of[example] for example in component}) == 1
        sides = dict(division.side_of)
        stored = {**stored, **division.sides}


@given(numbered, st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_order_of_rows_does_not_matter(drawn: list, rng: object) -> None:  # type: ignore[type-arg]
    rows = rows_from(drawn)
    shuffled = list(rows)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert divide(rows, stored={}) == divide(shuffled, stored={})


def shares(side_of: Mapping[str, Split]) -> dict[str, float]:
    return {side: count / len(side_of) for side, count in Counter(side_of.values()).items()}


def test_equal_users_are_divided_by_the_stated_fractions() -> None:
    # 24 users of 9 rows: 216 rows, so a user is 4.2 % and each side is hit to within one user.
    rows = [row(n, n // 9, [], [f"word{n}"] * 5) for n in range(216)]
    found = shares(divide(rows, stored={}).side_of)
    assert all(abs(found[side] - share) <= 9 / 216 for side, share in FRACTIONS.items())


def test_a_document_that_everybody_asks_about_does_not_tie_everybody_together() -> None:
    rows = [Splittable(f"e{n}", f"user{n // 10}", ("popular" if n % 10 == 0 else f"own{n}",), f"q{n}") for n in range(200)]
    division = divide(rows, stored={})
    assert 0 < len(division.dropped) <= 20
    assert set(division.side_of.values()) == {"train", "validation", "test"}


def test_a_training_row_that_would_join_a_test_component_is_dropped() -> None:
    stored: dict[str, Split] = {}
    for one, side in (
        (Splittable("t", "tess", ("d1",), "a b c d e f"), "test"),
        (Splittable("l", "luke", ("d2",), "g h i j k l"), "train"),
    ):
        stored |= dict.fromkeys(group_ids(one), side)  # type: ignore[arg-type]
    bridge = Splittable("b", "luke", ("d1",), "m n o p q r")
    alike = Splittable("c", "luke", (), "a b c d e f")
    fresh = Splittable("f", "luke", ("d3",), "s t u v w x")
    rows = [Splittable("t", "tess", ("d1",), "a b c d e f"), Splittable("l", "luke", ("d2",), "g h i j k l"), bridge, alike, fresh]
    division = divide(rows, stored=stored)
    assert division.dropped == {"b", "c"}
    assert division.side_of == {"t": "test", "l": "train", "f": "train"}


def test_one_user_and_no_rows_are_fine() -> None:
    assert divide([], stored={}).side_of == {}
    assert set(divide([row(n, 1, [], [str(n)] * 6) for n in range(50)], stored={}).side_of.values()) == {"train"}
