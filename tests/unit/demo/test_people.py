"""The simulated users: whom they are attached to, and that they judge with the stated probabilities."""

from __future__ import annotations

import json
from collections import Counter
from types import MappingProxyType

import numpy as np
import pytest

from affinage.demo.calls import Call
from affinage.demo.corpus import demo_subjects
from affinage.demo.people import (
    P_CORRECT_WHEN_WRONG,
    P_SILENT,
    P_UP_WHEN_RIGHT,
    agents,
    cites,
    rate_answer,
    rate_extraction,
    review_extraction,
)
from affinage.demo.questions import Question, questions

QUESTION = Question("ada", "Quand ?", "handbook/a.md", "Le guichet ouvre ses portes lundi matin à neuf heures.", "fr")
RIGHT = {"document": "handbook/a.md", "quote": QUESTION.answer_sentence}
WRONG = {"document": "handbook/a.md", "quote": "Personne ne répond au téléphone pendant le mois d'août."}
CALL = Call("ada", "…", MappingProxyType({"product": "Bac Trivéo", "reason": "panne", "reference": None}))
RUNS = 4000
# At 4,000 draws a share is within 0.03 of its probability in all but 1 of 10,000 cases (4 standard errors at one half).


def test_every_document_is_asked_about_by_one_agent_only() -> None:
    askers: dict[str, set[str]] = {}
    for question in questions():
        askers.setdefault(question.document, set()).add(question.user)
    assert all(len(users) == 1 for users in askers.values())
    assert {question.user for question in questions()} == {agent.name for agent in agents()}


def test_about_thirty_agents_ask_fifteen_to_twenty_questions_each() -> None:
    counts = Counter(question.user for question in questions())
    assert 28 <= len(counts) <= 36
    assert all(15 <= count <= 20 for count in counts.values())
    assert len({agent.name for agent in agents()}) == len(agents())


def test_agents_belong_to_the_group_of_their_folder() -> None:
    for subject in demo_subjects():
        top = subject.folder.split("/")[0]
        assert top in ("public", "personnel") or top in subject.groups
        assert top != "personnel" or subject.folder == f"personnel/{subject.person}"


@pytest.mark.parametrize(
    ("citation", "expected"),
    [
        (RIGHT, True),
        ({**RIGHT, "quote": "Une phrase avant. " + QUESTION.answer_sentence}, True),
        ({**RIGHT, "quote": "Le guichet ouvre ses portes lundi\nmatin"}, True),
        ({**RIGHT, "quote": "Une phrase avant. Le guichet ouvre ses portes"}, True),
        ({**RIGHT, "quote": "lundi"}, False),
        ({**RIGHT, "quote": ""}, False),
        ({**RIGHT, "document": "handbook/b.md"}, False),
        (WRONG, False),
    ],
)
def test_a_citation_counts_when_it_shows_or_overlaps_the_sentence_in_the_right_document(citation: dict[str, str], expected: bool) -> None:
    assert cites(QUESTION, [citation]) is expected


def test_right_answers_are_rated_up_with_the_stated_probability() -> None:
    rng = np.random.default_rng(1)
    ratings = [rate_answer(rng, "ada", QUESTION, [WRONG, RIGHT]) for _ in range(RUNS)]
    assert {judgement.rating for judgement in ratings} == {"up", None}
    assert np.mean([judgement.rating == "up" for judgement in ratings]) == pytest.approx((1 - P_SILENT) * P_UP_WHEN_RIGHT, abs=0.03)
    assert all(judgement.correction is None for judgement in ratings)


@pytest.mark.parametrize("citations", [[], [WRONG]])
def test_wrong_answers_are_corrected_with_the_verbatim_sentence(citations: list[dict[str, str]]) -> None:
    rng = np.random.default_rng(2)
    ratings = [rate_answer(rng, "ada", QUESTION, citations) for _ in range(RUNS)]
    corrected = [judgement for judgement in ratings if judgement.correction is not None]
    assert {judgement.correction for judgement in corrected} == {QUESTION.answer_sentence}
    assert len(corrected) / RUNS == pytest.approx((1 - P_SILENT) * P_CORRECT_WHEN_WRONG, abs=0.03)
    assert np.mean([judgement.silent for judgement in ratings]) == pytest.approx(P_SILENT, abs=0.03)
    assert "up" not in {judgement.rating for judgement in ratings}


def test_nobody_judges_an_answer_to_someone_else() -> None:
    with pytest.raises(ValueError, match="'bob'"):
        rate_answer(np.random.default_rng(0), "bob", QUESTION, [RIGHT])


@pytest.mark.parametrize(
    ("answered", "probability"),
    [
        (None, 0.05),  # no JSON: F1 0
        ({"product": "Bac Trivéo", "reason": "panne", "reference": None}, 0.95),  # F1 1
        ({"product": "Bac Trivéo", "reason": "perte", "reference": None}, 0.5),  # one of two values each way: F1 1/2
    ],
)
def test_an_extraction_is_rated_up_with_the_stated_probability(answered: object, probability: float) -> None:
    rng = np.random.default_rng(3)
    share = np.mean([rate_extraction(rng, CALL.expected, answered) == "up" for _ in range(RUNS)])
    assert share == pytest.approx(probability, abs=0.03)


def test_a_wrong_extraction_is_always_corrected_with_the_expected_object() -> None:
    judgement = review_extraction(np.random.default_rng(4), CALL, {"product": "Bac"})
    assert judgement.rating == "down"
    assert judgement.correction is not None
    assert json.loads(judgement.correction) == dict(CALL.expected)


def test_a_right_extraction_is_accepted_or_left() -> None:
    rng = np.random.default_rng(5)
    ratings = {review_extraction(rng, CALL, {"product": "Bac Trivéo", "reason": "panne"}) for _ in range(200)}
    assert {(judgement.rating, judgement.correction) for judgement in ratings} == {("up", None), (None, None)}
