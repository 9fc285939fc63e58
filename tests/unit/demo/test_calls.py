"""The calls: what is expected stands in the transcript, and no wording is shared across what a split must separate."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest
from jsonschema import Draft202012Validator

from affinage.datasets.personal import personal_data
from affinage.demo.calls import CALL_SCHEMA, CALLS_PER_AGENT, REASONS, TRAINING_AGENTS, Call, ab_calls, training_calls

TRAINING, FRESH = training_calls(), ab_calls()


def by_user(calls: tuple[Call, ...]) -> dict[str, list[Call]]:
    grouped: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        grouped[call.user].append(call)
    return grouped


def test_product_and_reference_can_be_copied_from_the_transcript() -> None:
    validator = Draft202012Validator(CALL_SCHEMA)
    for call in (*TRAINING, *FRESH):
        assert str(call.expected["product"]) in call.text, call
        assert call.expected["reference"] is None or call.expected["reference"] in call.text, call
        assert 45 <= len(call.text.split()) <= 90, call
        assert validator.is_valid(dict(call.expected)), call
        assert personal_data(call.text) == [], call


def test_each_training_agent_has_nine_different_calls_of_every_reason() -> None:
    grouped = by_user(TRAINING)
    assert len(grouped) == TRAINING_AGENTS
    for calls in grouped.values():
        assert len({call.text for call in calls}) == CALLS_PER_AGENT
        assert {call.expected["reason"] for call in calls} == set(REASONS)
        assert len({(call.expected["reason"], call.expected["product"]) for call in calls}) == CALLS_PER_AGENT


def test_agents_share_no_product() -> None:
    owners: dict[str | None, set[str]] = defaultdict(set)
    for call in TRAINING:
        owners[call.expected["product"]].add(call.user)
    assert max(len(users) for users in owners.values()) == 1
    assert not owners.keys() & {call.expected["product"] for call in FRESH}


def test_agents_share_no_statement() -> None:
    def statement(call: Call) -> str:
        said = next(part for part in re.split(r"[.?!:]\s", call.text) if str(call.expected["product"]) in part)
        # The article follows the product, and a hesitation may fall anywhere.
        return re.sub(r"(\w+ |\w')?§", "§", said.replace(str(call.expected["product"]), "§")).replace("euh, ", "")

    owners: dict[str, set[str]] = defaultdict(set)
    for call in TRAINING:
        owners[statement(call)].add(call.user)
    assert {words: users for words, users in owners.items() if len(users) > 1} == {}
    assert not owners.keys() & {statement(call) for call in FRESH}


def test_every_fresh_call_has_an_agent_of_its_own() -> None:
    assert len(FRESH) == len(by_user(FRESH)) >= 140
    assert not by_user(FRESH).keys() & by_user(TRAINING).keys()
    assert len({call.text for call in FRESH}) == len(FRESH)


def test_reasons_are_balanced_and_some_calls_name_no_reference() -> None:
    for calls in (TRAINING, FRESH):
        counts = Counter(call.expected["reason"] for call in calls)
        assert counts.keys() == set(REASONS)
        assert max(counts.values()) <= 2 * min(counts.values())
        assert 0.1 <= sum(call.expected["reference"] is None for call in calls) / len(calls) <= 0.35


def test_agents_say_the_reason_back_in_words_that_no_other_agent_uses() -> None:
    restated: dict[str, set[str]] = defaultdict(set)
    for call in (*TRAINING, *FRESH):
        lines = [line for line in call.text.splitlines() if line.startswith("Agent : ")]
        if lines:
            noun = str(call.expected["reason"]).replace("resiliation", "résiliation")
            assert noun in lines[-1], call
            restated[lines[-1].replace(noun, "§")].add(call.user)
    of_training = {words for words, users in restated.items() if any(user.startswith("standard") for user in users)}
    assert all(len(restated[words]) == 1 for words in of_training)
    spoken = sum("Agent : " in call.text for call in (*TRAINING, *FRESH)) / (len(TRAINING) + len(FRESH))
    assert 0.6 < spoken < 0.8


def test_the_same_seed_gives_the_same_calls() -> None:
    assert training_calls(7) == training_calls(7) != training_calls(8)


@pytest.mark.parametrize(
    ("product", "said"),
    [
        ("Carte Lectora", "ma Carte Lectora"),
        ("Abonnement Riverain", "mon Abonnement Riverain"),
        ("Bac Trivéo", "mon Bac Trivéo"),
    ],
)
def test_articles_agree_with_the_product(product: str, said: str) -> None:
    from affinage.demo.calls import _with_product

    assert _with_product("j'ai perdu mon {p} au marché", product) == f"j'ai perdu {said} au marché"


def test_elision_before_a_vowel() -> None:
    from affinage.demo.calls import _with_product

    assert _with_product("le {p} et le prix du {p}", "Abonnement Riverain") == "l'Abonnement Riverain et le prix de l'Abonnement Riverain"
