from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affinage.datasets import filters
from affinage.datasets.candidates import Candidate
from tests.support.answers import AT


def candidate(number: int = 0, **changes: Any) -> Candidate:
    question = changes.pop("question", f"question number {number} about the office {number} hours")
    values: dict[str, Any] = {
        "kind": "sft",
        "payload": {"messages": [{"role": "user", "content": question}], "target": changes.get("target", "Ten days."), "n": number},
        "question": question,
        "target": "Ten days.",
        "user": "alice",
        "said_at": AT + timedelta(seconds=number),
        "allow": frozenset({"everyone"}),
    }
    return Candidate(**{**values, **changes})


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("empty", candidate(target="  "), "empty"),
        ("length", candidate(target="x" * 8001), "length"),
        ("length", candidate(question="x" * 8001), "length"),
        ("references", candidate(target="Ten days [2].", passages=("Ten days.",)), "references"),
        ("references", candidate(target="Ten days [0].", passages=("Ten days.",)), "references"),
        ("references", candidate(target="[1] [2] [3] [4] [5] [6] [7]", passages=("p",) * 8), "references"),
        ("exact_quotes", candidate(target="« the delay is twelve days »", passages=("the delay is ten days",)), "quotes"),
        ("exact_quotes", candidate(target='It says "the delay is twelve days".', passages=("the delay is ten days",)), "quotes"),
        ("personal", candidate(own_text="write to jo@exemple.fr"), "personal_data"),
    ],
)
def test_each_formal_filter_names_its_reason(name: str, row: Candidate, reason: str) -> None:
    assert getattr(filters, name)(row) == reason
    assert reason in filters.REASONS


@pytest.mark.parametrize(
    "row",
    [
        candidate(target="The delay is ten days [1].", passages=("The delay is ten days.",)),
        candidate(target="« the delay is ten days »", passages=("Here the delay is ten days.",)),
        candidate(target='He said "no way" twice.', passages=("p",)),  # two words are no citation
        candidate(target="See [9]."),  # no passages: nothing to refer to
    ],
)
def test_a_sound_row_passes_all(row: Candidate) -> None:
    for one in (filters.empty, filters.length, filters.references, filters.exact_quotes, filters.personal):
        assert one(row) is None


def test_a_row_is_rejected_when_somebody_in_the_audience_may_not_read_it() -> None:
    row = candidate(allow=frozenset({"group:hr"}))
    assert filters.rights(row, audience=["everyone"]) == "rights"
    assert filters.rights(row, audience=["group:hr", "group:it"]) == "rights"
    assert filters.rights(row, audience=["group:hr"]) is None
    assert filters.rights(candidate(allow=frozenset()), audience=["group:hr"]) == "rights"


def test_output_of_a_model_with_unknown_terms_is_not_learnt() -> None:
    licences = {"package:smollm2": "apache-2.0", "closed": "proprietary"}
    assert filters.licence(candidate(), licences=licences) is None
    assert filters.licence(candidate(generated_by="package:smollm2"), licences=licences) is None
    assert filters.licence(candidate(generated_by="closed"), licences=licences) == "licence"
    assert filters.licence(candidate(generated_by="https://api.example"), licences=licences) == "licence"


def test_a_target_in_another_language_is_rejected() -> None:
    row = candidate(target="Die Frist für die Anmeldung beträgt zehn Tage nach dem Umzug in die Stadt.")
    assert filters.language(row, languages=["fr", "en"], detect=lambda text: "de") == "language"
    assert filters.language(row, languages=["fr", "de"], detect=lambda text: "de") is None
    assert filters.language(candidate(target="Zehn Tage."), languages=["fr"], detect=lambda text: "de") is None


def test_repeating_oneself_is_dropped_and_the_earliest_stays() -> None:
    rows = [candidate(2, question="How long is the delay here now?"), candidate(1, question="How long is the delay here now?")]
    kept, rejected = filters.near_duplicates(rows, within_user=True)
    assert [row.order for row in kept] == [rows[1].order]
    assert [one.reason for one in rejected] == ["near_duplicate"]


def test_the_same_question_with_another_target_is_no_duplicate() -> None:
    rows = [candidate(1, question="How long?", target="Ten."), candidate(2, question="How long?", target="Twelve.")]
    assert len(filters.near_duplicates(rows, within_user=True)[0]) == 2


def test_within_user_leaves_other_users_alone() -> None:
    rows = [candidate(1, question="How long?"), candidate(2, question="How long?", user="bob")]
    assert len(filters.near_duplicates(rows, within_user=True)[0]) == 2
    assert len(filters.near_duplicates(rows, within_user=False)[0]) == 1


def votes(**verdicts: str) -> list[Candidate]:
    return [candidate(n, user=user, topic="t", verdict=verdict) for n, (user, verdict) in enumerate(verdicts.items())]


def test_disagreement_drops_all_and_a_two_thirds_majority_keeps_its_own() -> None:
    assert filters.contradictions(votes(a="x", b="y"))[0] == []
    kept, rejected = filters.contradictions(votes(a="x", b="y", c="x"))
    assert [row.user for row in kept] == ["a", "c"]
    assert [one.candidate.user for one in rejected] == ["b"]


def test_one_user_has_one_vote() -> None:
    rows = votes(a="x", b="y") + [candidate(n, user="b", topic="t", verdict="y") for n in range(5, 9)]
    assert filters.contradictions(rows)[0] == []


def test_more_than_twenty_rows_of_one_user_change_nothing() -> None:
    others = [candidate(n, user=f"u{n}") for n in range(500, 700)]
    loud = [candidate(n, user="loud") for n in range(1000)]
    few = filters.cap_rows(others + loud[:20])[0]
    many = filters.cap_rows(others + loud)[0]
    assert {row.example_id for row in few} == {row.example_id for row in many}


@given(st.lists(st.integers(0, 60), min_size=1, max_size=45))
@settings(max_examples=200, deadline=None)
def test_nobody_has_more_than_the_stated_share(counts: list[int]) -> None:
    rows = [candidate(100 * user + n, user=f"u{user}") for user, count in enumerate(counts) for n in range(count)]
    kept, rejected = filters.cap_share(filters.cap_rows(rows)[0])
    found = Counter(row.user for row in kept)
    assert len(kept) + len(rejected) == len(filters.cap_rows(rows)[0])
    assert all(count <= filters.USER_ROWS for count in found.values())
    if len(found) >= 20:
        assert max(found.values()) * 20 <= len(kept)


def test_the_reason_words_are_bounded() -> None:
    row = replace(candidate(), failed="schema")
    assert filters.split_off([row], lambda one: one.failed)[1][0].reason in filters.REASONS
