from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affinage.errors import ConfigurationError, UsageError
from affinage.experiments.events import Event
from affinage.experiments.replay import Evidence, TestConfig, replay

START = datetime(2026, 3, 2, tzinfo=UTC)
KINDS = ("rating", "bad", "preference", "exposure")
EVENTS = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"),
        st.sampled_from([0.0, 0.1, 0.5, 1.0]),
        st.booleans(),
        st.sampled_from(KINDS),
        st.sampled_from([0.0, 1.0]),
    ),
    max_size=60,
)


def rating(seq: int, unit: str, arm: str, value: float, *, q: float = 0.5, **more: object) -> Event:
    return Event(seq, unit, arm, q, str(more.pop("kind", "rating")), value, **more)  # type: ignore[arg-type]


def stream(n: int, *, control: float, candidate: float, seed: int = 1, q: float = 0.5, **more: object) -> list[Event]:
    rng = np.random.default_rng(seed)
    arms = ["candidate" if rng.random() < q else "control" for _ in range(n)]
    rates = {"candidate": candidate, "control": control}
    return [rating(i, f"u{i}", arm, float(rng.random() < rates[arm]), q=q, **more) for i, arm in enumerate(arms, start=1)]


def made(raw: list[tuple[str, float, bool, str, float]]) -> list[Event]:
    seq = count(1)
    return [Event(next(seq), u, "candidate" if q == 1 or (q > 0 and c) else "control", q, k, v) for u, q, c, k, v in raw]


def test_a_clear_benefit_promotes_within_80_ratings() -> None:
    medians = [replay(stream(300, control=0.3, candidate=0.8, seed=seed)) for seed in range(60)]
    assert {result.decision for result in medians} == {"promote"}
    assert np.median([result.decided_at for result in medians if result.decided_at]) <= 80


def test_a_clear_harm_rolls_back() -> None:
    assert replay(stream(400, control=0.8, candidate=0.3)).decision == "rollback"


def test_no_events_decide_nothing() -> None:
    result = replay([])
    assert (result.decision, result.decided_at) == ("continue", None)
    assert {test.log_e for test in result.tests} == {0.0}


def test_the_first_crossing_is_final() -> None:
    better = stream(200, control=0.2, candidate=0.9)
    found = replay(better)
    worse = [rating(i, f"w{i}", "candidate", 0.0) for i in range(201, 600)]
    again = replay([*better, *worse])
    assert (again.decision, again.decided_at, again.tests) == (found.decision, found.decided_at, found.tests)


def test_the_decision_falls_at_the_event_that_crossed() -> None:
    events = stream(200, control=0.2, candidate=0.9)
    at = replay(events).decided_at
    assert at is not None
    assert replay(events[: at - 1]).decision == "continue"
    assert replay(events[:at]).test("benefit").log_e >= math.log(20)


@settings(max_examples=60)
@given(raw=EVENTS)
def test_one_at_a_time_equals_all_at_once(raw: list[tuple[str, float, bool, str, float]]) -> None:
    events = made(raw)
    evidence = Evidence(TestConfig())
    for event in events:
        evidence.add(event)
    assert evidence.result() == replay(iter(events))


@settings(max_examples=60)
@given(raw=EVENTS, cut=st.integers(0, 60))
def test_a_decision_never_changes_with_more_events(raw: list[tuple[str, float, bool, str, float]], cut: int) -> None:
    events = made(raw)
    before, after = replay(events[:cut]), replay(events)
    if before.decision != "continue":
        assert (after.decision, after.decided_at) == (before.decision, before.decided_at)


def test_only_the_first_rating_of_a_unit_and_stage_counts() -> None:
    one = [rating(1, "a", "candidate", 1.0, stage=0)]
    assert replay([*one, rating(2, "a", "candidate", 0.0, stage=0)]).tests == replay(one).tests
    assert replay([*one, rating(2, "a", "candidate", 0.0, stage=1, q=0.25)]).tests != replay(one).tests


def test_without_stages_a_new_probability_marks_a_new_stage() -> None:
    one = [rating(1, "a", "control", 1.0, q=0.01)]
    assert replay([*one, rating(2, "a", "control", 0.0, q=0.01)]).tests == replay(one).tests
    assert replay([*one, rating(2, "a", "control", 0.0, q=0.04 / 0.99)]).tests != replay(one).tests


def test_a_certain_assignment_moves_no_test() -> None:
    events = [rating(1, "a", "candidate", 1.0, q=1.0), rating(2, "b", "control", 0.0, q=0.0)]
    assert {test.log_e for test in replay(events).tests} == {0.0}


def test_matched_counts_as_control() -> None:
    assert replay([rating(1, "a", "matched", 1.0)]).tests == replay([rating(1, "a", "control", 1.0)]).tests


def test_anonymous_use_is_left_out() -> None:
    event = Event(1, None, "control", 0.0, "rating", 1.0)
    assert replay([event]).rated_units == 0


def test_only_the_first_bad_event_of_a_unit_counts_and_good_ones_do_not() -> None:
    one = [rating(1, "a", "candidate", 1.0, kind="bad")]
    more = [rating(2, "a", "candidate", 1.0, kind="bad"), rating(3, "b", "candidate", 0.0, kind="bad")]
    assert replay([*one, *more]).tests == replay(one).tests


def test_bad_events_on_the_candidate_roll_back() -> None:
    events = [rating(i, f"u{i}", "candidate", 1.0, q=0.05, kind="bad") for i in range(1, 20)]
    assert replay(events).decision == "rollback"


def test_preferences_alone_promote() -> None:
    events = [rating(i, f"u{i}", "candidate", 1.0, kind="preference") for i in range(1, 60)]
    result = replay(events)
    assert result.decision == "promote"
    assert result.test("preference_benefit").crossed


def test_alpha_is_spent_on_one_kind_only() -> None:
    # The first kind seen is the primary one; the other is reported.
    votes = [rating(i, f"v{i}", "candidate", 1.0, kind="preference") for i in range(2, 60)]
    result = replay([rating(1, "a", "control", 1.0), *votes])
    assert result.decision == "continue"
    assert result.test("preference_benefit").crossed


def test_disorder_is_an_error() -> None:
    with pytest.raises(UsageError, match="Event 1 comes after event 2"):
        replay([rating(2, "a", "control", 1.0), rating(1, "b", "control", 1.0)])


def test_promotion_waits_for_enough_rated_units() -> None:
    events = stream(300, control=0.1, candidate=0.95)
    early = replay(events).decided_at
    assert early is not None
    late = replay(events, TestConfig(min_units=early + 50))
    assert (late.decision, late.decided_at) == ("promote", early + 50)


def test_a_rollback_does_not_wait_for_units() -> None:
    events = stream(300, control=0.95, candidate=0.1)
    assert replay(events, TestConfig(min_units=10_000)).decided_at == replay(events).decided_at


def test_promotion_waits_for_the_calendar_and_then_needs_no_new_event() -> None:
    events = stream(200, control=0.1, candidate=0.95, at=START + timedelta(days=1))
    config = TestConfig(min_days=7)
    assert replay(events, config, started_at=START, ended_at=START + timedelta(days=6)).decision == "continue"
    assert replay(events, config, started_at=START, ended_at=START + timedelta(days=7)).decision == "promote"


def test_limits_in_days_need_instants() -> None:
    with pytest.raises(UsageError, match="instant"):
        replay(stream(3, control=0.5, candidate=0.5), TestConfig(max_days=1))


def test_the_control_is_kept_at_the_maximum() -> None:
    result = replay(stream(50, control=0.5, candidate=0.5), TestConfig(max_units=40))
    assert (result.decision, result.decided_at) == ("keep", 40)


def test_nothing_is_promoted_while_the_arms_are_out_of_ratio() -> None:
    exposures = [rating(i, f"x{i}", "candidate", 1.0, kind="exposure") for i in range(1, 60)]
    ratings = [rating(i + 100, e.unit or "", e.arm, e.value) for i, e in enumerate(stream(300, control=0.1, candidate=0.95))]
    result = replay([*exposures, *ratings])
    assert result.decision == "continue"
    assert result.test("benefit").crossed
    assert "routing or logging" in result.reason


@pytest.mark.parametrize(
    ("raw", "message"),
    [({"alfa": 0.1}, "`alfa` is not a known key"), ({"alpha": 2}, "between 0 and 1"), ({"primary": "x"}, "primary")],
)
def test_a_wrong_configuration_is_named(raw: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TestConfig.from_mapping(raw, origin="config.yaml")
