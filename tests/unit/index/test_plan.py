from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.index.plan import Known, join, match_moves, must_hold


@dataclass(frozen=True)
class At:
    path: str


def known(path: str, raw_hash: str | None = "h", *, failed: bool = False) -> Known:
    return Known(f"key-{path}", path, None, raw_hash, (), failed)


paths = st.lists(st.text(min_size=1, max_size=4), unique=True).map(sorted)


@given(paths, paths)
def test_join_pairs_equal_paths_and_loses_none(listed: list[str], ledger: list[str]) -> None:
    pairs = [(a.path if a else None, b.path if b else None) for a, b in join(map(At, listed), map(known, ledger))]
    both, left, right = set(listed) & set(ledger), set(listed) - set(ledger), set(ledger) - set(listed)
    assert sorted(pairs, key=str) == sorted([(p, p) for p in both] + [(p, None) for p in left] + [(None, p) for p in right], key=str)


@pytest.mark.parametrize("listed", [["b", "a"], ["a", "a"]])
def test_join_refuses_a_listing_that_is_not_sorted(listed: list[str]) -> None:
    with pytest.raises(ValueError, match="not sorted"):
        list(join(map(At, listed), []))


def test_move_is_matched_by_content_and_suffix_once() -> None:
    missing = [known("a.md", "h1"), known("b.md", "h1"), known("c.md", "h2"), known("d.md", "h3", failed=True), known("e.md", None)]
    moves = match_moves({"x.md": "h1", "y.md": "h1", "z.md": "h1", "c.txt": "h2", "w.md": "h3"}, missing)
    assert {path: moved.path for path, moved in moves.items()} == {"x.md": "a.md", "y.md": "b.md"}


@pytest.mark.parametrize(
    ("missing", "known_count", "listed", "held"),
    [
        (0, 0, 0, False),
        (0, 10, 10, False),
        (1, 1, 0, True),  # nothing is listed at all
        (1, 2, 1, False),
        (20, 30, 10, False),
        (21, 30, 9, True),
        (21, 210, 189, False),  # ten percent of 210 are 21
        (22, 210, 188, True),
        (100, 1000, 900, False),
        (101, 1000, 899, True),
    ],
)
def test_brake(missing: int, known_count: int, listed: int, held: bool) -> None:
    assert must_hold(missing=missing, known=known_count, listed=listed) is held
