"""Scores of replies and of rankings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from affinage.tuning.scores import extraction_scores, retrieval_scores

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": ["string", "null"]}}, "required": ["a", "b"]}
TARGET = '{"a": "x", "b": "y"}'


def score(reply: str) -> dict[str, float]:
    return {name: values[0] for name, values in extraction_scores([reply], [TARGET], schema=SCHEMA).items()}


def test_the_right_object_scores_full_marks() -> None:
    assert score('{"b": "y", "a": "x"}') == {"field_f1": 1, "exact_match": 1, "valid_json": 1, "bare_json": 1}


def test_words_around_the_object_are_read_as_production_reads_them() -> None:
    assert score(f"Voici :\n```json\n{TARGET}\n```") == {"field_f1": 1, "exact_match": 1, "valid_json": 1, "bare_json": 0}


def test_half_right_is_half_the_fields() -> None:
    assert score('{"a": "x", "b": "wrong"}') == {"field_f1": 0.5, "exact_match": 0, "valid_json": 1, "bare_json": 1}


@pytest.mark.parametrize("reply", ["", "Je ne sais pas.", '{"a": "x"}', '{"a": 1, "b": null}'])
def test_what_does_not_validate_is_worth_nothing(reply: str) -> None:
    assert set(score(reply).values()) == {0.0}


def test_a_target_that_is_no_object_cannot_be_scored_against() -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        extraction_scores(["{}"], ["Bonjour"], schema=None)


def test_rankings_are_scored_against_the_whole_corpus() -> None:
    corpus = np.eye(3, dtype=np.float32)
    questions = np.array([[1, 0, 0], [0.5, 0.8, 0]], dtype=np.float32)
    scores = retrieval_scores(questions, corpus, names=["a", "b", "c"], relevant=["a", "a"])
    # First question: rank 1. Second: rank 2, 1/log2(3).
    assert scores["ndcg_at_10"] == pytest.approx([1.0, 1 / math.log2(3)])
    assert scores["recall_at_5"] == [1.0, 1.0]


def test_a_passage_that_is_gone_cannot_be_scored() -> None:
    scores = retrieval_scores(np.ones((1, 2), dtype=np.float32), np.ones((1, 2), dtype=np.float32), names=["a"], relevant=["gone"])
    assert math.isnan(scores["ndcg_at_10"][0])
    empty = retrieval_scores(np.ones((1, 2), dtype=np.float32), np.empty((0, 2), dtype=np.float32), names=[], relevant=["gone"])
    assert math.isnan(empty["recall_at_5"][0])
