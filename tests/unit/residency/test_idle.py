"""Adapters that nobody needs go after a grace, a few at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from affinage.residency.idle import GRACE, MOST_AT_ONCE, Idle

START = datetime(2026, 3, 2, tzinfo=UTC)
POOL = "http://pods:1"


def test_an_adapter_goes_when_nobody_needed_it_during_the_whole_grace() -> None:
    idle = Idle()
    idle.see({POOL: {"a@1", "b@1"}}, unneeded={"a@1"}, now=START)
    assert idle.due(now=START + GRACE - timedelta(seconds=1)) == []
    assert idle.due(now=START + GRACE) == [(POOL, "a@1")]
    idle.forget(POOL, "a@1")
    assert idle.due(now=START + GRACE) == []


def test_one_that_is_needed_again_begins_anew() -> None:
    idle = Idle()
    idle.see({POOL: {"a@1"}}, unneeded={"a@1"}, now=START)
    idle.see({POOL: {"a@1"}}, unneeded=set(), now=START + GRACE)
    assert idle.due(now=START + GRACE) == []
    idle.see({POOL: {"a@1"}}, unneeded={"a@1"}, now=START + GRACE)
    assert idle.due(now=START + GRACE) == []
    assert idle.due(now=START + 2 * GRACE) == [(POOL, "a@1")]


def test_each_pool_is_counted_by_itself_and_a_round_takes_a_few_the_longest_unneeded_first() -> None:
    idle, other = Idle(), "http://others:1"
    idle.see({other: {"z@1"}}, unneeded={"z@1"}, now=START)
    names = {f"a@{n}" for n in range(20)}
    idle.see({POOL: names, other: {"z@1"}}, unneeded={*names, "z@1"}, now=START + timedelta(seconds=1))
    due = idle.due(now=START + 2 * GRACE)
    assert due[0] == (other, "z@1")
    assert len(due) == MOST_AT_ONCE


def test_nothing_on_the_pods_is_nothing_to_do() -> None:
    idle = Idle()
    idle.see({}, unneeded={"a@1"}, now=START)
    idle.see({POOL: set()}, unneeded={"a@1"}, now=START)
    assert idle.due(now=START + GRACE) == []
