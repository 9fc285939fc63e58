from __future__ import annotations

import json
from typing import Any

import pytest

from affinage.errors import UsageError
from affinage.experiments.events import in_order, parse_event, read_events

GOOD: dict[str, Any] = {"seq": 1, "unit": "u", "arm": "candidate", "q": 0.5, "kind": "rating", "value": 1}


def test_a_written_event_reads_the_same() -> None:
    event = parse_event({**GOOD, "stage": 2, "at": "2026-03-02T09:00:00+00:00"})
    assert parse_event(json.loads(json.dumps(event.as_dict()))) == event


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seq": "1"}, "`seq` must be a whole number"),
        ({"seq": True}, "`seq` must be a whole number"),
        ({"unit": 7}, "`unit` must be a string"),
        ({"arm": "B"}, "`arm` must be one of"),
        ({"q": 1.5}, "`q` must be a probability"),
        ({"q": float("nan")}, "`q` must be a probability"),
        ({"q": "0.5"}, "`q` must be a probability"),
        ({"q": 0}, "could not happen"),
        ({"arm": "control", "q": 1}, "could not happen"),
        ({"kind": "click"}, "`kind` must be one of"),
        ({"value": 2}, "must be one of 0, 1"),
        ({"value": 0.5}, "must be one of 0, 1"),
        ({"value": None}, "`value` must be a number"),
        ({"stage": -1}, "`stage` must be"),
        ({"at": "yesterday"}, "ISO 8601"),
        ({"at": "2026-03-02T09:00:00"}, "time zone"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(change: dict[str, Any], message: str) -> None:
    lines = [json.dumps(GOOD), "", json.dumps({**GOOD, **change})]
    with pytest.raises(UsageError, match=r"log\.jsonl, line 3") as caught:
        list(read_events(lines, origin="log.jsonl"))
    assert message in caught.value.message


@pytest.mark.parametrize("key", sorted(GOOD))
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(UsageError, match=f"line 1: `{key}` is missing"):
        list(read_events([json.dumps({k: v for k, v in GOOD.items() if k != key})], origin="log"))


@pytest.mark.parametrize("line", ["{", "[]", "3", '"text"'])
def test_a_line_that_is_no_object_is_named(line: str) -> None:
    with pytest.raises(UsageError, match="log, line 1"):
        list(read_events([line], origin="log"))


def test_a_vote_needs_neither_arm_nor_probability() -> None:
    assert parse_event({"seq": 1, "unit": "u", "arm": None, "q": None, "kind": "preference", "value": 0.5}).value == 0.5


def test_events_are_ordered_by_their_numbers_and_repeats_are_dropped() -> None:
    events = [parse_event({**GOOD, "seq": seq}) for seq in (3, 1, 3, 2)]
    assert [event.seq for event in in_order(events, origin="log")] == [1, 2, 3]


def test_two_events_with_one_number_have_no_order() -> None:
    events = [parse_event(GOOD), parse_event({**GOOD, "value": 0})]
    with pytest.raises(UsageError, match="sequence number 1"):
        in_order(events, origin="log")
