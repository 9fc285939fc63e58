from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.experiments.assignment import CANDIDATE, CONTROL, MATCHED, Split, position, probability, splits

UNITS = [f"unit-{i}" for i in range(5000)]
SHARES = (0.01, 0.05, 0.25, 0.5)


@pytest.mark.parametrize(
    ("layer", "experiment", "unit", "u"),
    [
        ("default", "tone-2", "alice", 0.7886693895490572),
        ("default", "tone-2", "agent-7", 0.21289552115214416),
        ("layer-b", "exp-é", "u/1", 0.4152956893281671),
    ],
)
def test_positions_equal_the_published_vectors(layer: str, experiment: str, unit: str, u: float) -> None:
    assert position(unit, experiment=experiment, layer=layer) == u


def test_shares_are_met_over_many_units() -> None:
    split = Split((0.25,))
    candidates = sum(split.arm_of(position(unit, experiment="share")) == CANDIDATE for unit in UNITS)
    # 5,000 units at 0.25: standard deviation 0.6 points; four of them.
    assert candidates / len(UNITS) == pytest.approx(0.25, abs=0.025)


def test_experiments_draw_independently() -> None:
    split = Split((0.5,))
    both = sum(all(split.arm_of(position(unit, experiment=name)) == CANDIDATE for name in ("one", "two")) for unit in UNITS)
    assert both / len(UNITS) == pytest.approx(0.25, abs=0.025)


@given(shares=st.lists(st.floats(0, 0.5), min_size=2, max_size=6), names=st.lists(st.text(max_size=8), min_size=1, max_size=40))
def test_raising_a_share_moves_nobody_out_of_the_candidate(shares: list[float], names: list[str]) -> None:
    for name in names:
        u = position(name, experiment="ramp")
        arms = [Split((share,)).arm_of(u) for share in sorted(shares)]
        assert CONTROL not in arms[arms.index(CANDIDATE) :] if CANDIDATE in arms else True


@given(u=st.floats(0, 1, exclude_max=True), count=st.integers(1, 5), data=st.data())
def test_each_position_has_exactly_one_arm(u: float, count: int, data: st.DataObject) -> None:
    widest = 1 / (count + 1)
    split = Split(tuple(data.draw(st.floats(0, widest)) for _ in range(count)), matched=data.draw(st.floats(0, widest)))
    owners = [
        arm for arm in (CONTROL, *(name for name, _ in split.intervals())) if any(start <= u < end for start, end in split.region(arm))
    ]
    assert owners == [split.arm_of(u)]


def test_several_candidates_own_the_published_intervals() -> None:
    split = Split((0.1, 0.2), matched=0.1)
    expected = {0.05: "candidate", 0.2: CONTROL, 0.34: "candidate-2", 0.6: CONTROL, 0.95: MATCHED}
    assert {u: split.arm_of(u) for u in expected} == expected


@pytest.mark.parametrize("shares", [(), (0.6,), (-0.1,), (0.4, 0.1), (float("nan"),)])
def test_impossible_shares_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="share"):
        Split(shares)


def test_a_fresh_unit_has_the_plain_share() -> None:
    assert probability(splits(SHARES), stage=2, earlier_arms={}) == 0.25


def test_a_unit_that_was_control_has_the_conditional_probability() -> None:
    # (0.25 - 0.05) / (1 - 0.05)
    assert probability(splits(SHARES), stage=2, earlier_arms={0: CONTROL, 1: CONTROL}) == pytest.approx(0.2 / 0.95)
    assert probability(splits(SHARES), stage=2, earlier_arms={0: CONTROL}) == pytest.approx(0.24 / 0.99)


def test_a_candidate_stays_one_with_certainty() -> None:
    assert probability(splits(SHARES), stage=3, earlier_arms={1: CANDIDATE}) == 1.0


def test_a_control_unit_is_certain_when_the_share_does_not_rise() -> None:
    assert probability(splits((0.5, 0.5)), stage=1, earlier_arms={0: CONTROL}) == 0.0


def test_arms_of_this_stage_and_later_ones_do_not_change_the_probability() -> None:
    assert probability(splits(SHARES), stage=1, earlier_arms={1: CANDIDATE, 2: CANDIDATE}) == 0.05


def test_a_matched_unit_cannot_become_a_candidate() -> None:
    stages = (Split((0.1,), matched=0.1), Split((0.5,), matched=0.5))
    assert probability(stages, stage=1, earlier_arms={0: MATCHED}) == 0.0


def test_an_impossible_history_is_an_error() -> None:
    with pytest.raises(ValueError, match="no unit"):
        probability(splits((0.1, 0.2, 0.3)), stage=2, earlier_arms={0: CANDIDATE, 1: CONTROL})


@given(seen=st.sets(st.integers(0, 2)), name=st.text(min_size=1, max_size=6))
def test_the_drawn_arm_is_never_one_of_probability_zero(seen: set[int], name: str) -> None:
    stages = splits(SHARES)
    u = position(name, experiment="possible")
    q = probability(stages, stage=3, earlier_arms={s: stages[s].arm_of(u) for s in seen})
    assert q > 0 if stages[3].arm_of(u) == CANDIDATE else q < 1
