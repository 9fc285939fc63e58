"""Scores of one system on held-out rows, one number for each row and metric. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinage.answers.structured import parse_reply, problems
from affinage.scoring.exact_match import exact_match
from affinage.scoring.field_f1 import field_f1
from affinage.scoring.json_validity import is_valid
from affinage.scoring.ndcg import ndcg_at_k
from affinage.scoring.recall import recall_at_k

NDCG_DEPTH = 10
RECALL_DEPTH = 5
Scores = dict[str, list[float]]


def extraction_scores(replies: Sequence[str], targets: Sequence[str], *, schema: Mapping[str, Any] | None) -> Scores:
    """Scores of JSON replies against what a person corrected them to.

    A reply is read as production reads it (`valid_json`, `exact_match`, `field_f1`): the object in it counts, words around
    it do not. `bare_json` says whether the reply was that object and nothing else.

    Parameters
    ----------
    replies, targets
        In the same order, shape (n_rows,).
    schema
        Of the assistant's answers; without one any JSON object is valid.

    Raises
    ------
    ValueError
        If a target holds no JSON object: such a row cannot be a target.
    """
    scores: Scores = {"field_f1": [], "exact_match": [], "valid_json": [], "bare_json": []}
    for reply, target in zip(replies, targets, strict=True):
        said, wanted = parse_reply(reply), parse_reply(target)
        if wanted is None:
            raise ValueError(f"a target is no JSON object: {target[:80]!r}")
        valid = said is not None and (schema is None or not problems(said, schema))
        # What does not validate is never shown to anybody, so it is worth nothing.
        scores["field_f1"].append(field_f1(said, wanted) if valid else 0.0)
        scores["exact_match"].append(exact_match(said, wanted) if valid else 0.0)
        scores["valid_json"].append(1.0 if valid else 0.0)
        scores["bare_json"].append(is_valid(reply, schema))
    return scores


def retrieval_scores(
    questions: NDArray[np.float32], corpus: NDArray[np.float32], *, names: Sequence[str], relevant: Sequence[str]
) -> Scores:
    """Scores of an embedder whose whole corpus competes for each question.

    Parameters
    ----------
    questions, corpus
        Unit vectors, shape (n_questions, dimensions) and (n_texts, dimensions).
    names
        Of the corpus texts, shape (n_texts,), no duplicates.
    relevant
        The text that answers each question, shape (n_questions,). One that is not in the corpus gives NaN: the document
        changed since, and the row can no longer be scored.
    """
    scores: Scores = {f"ndcg_at_{NDCG_DEPTH}": [], f"recall_at_{RECALL_DEPTH}": []}
    known = set(names)
    similarity = questions @ corpus.T  # (n_questions, n_texts)
    for row, answer in zip(similarity, relevant, strict=True):
        if answer not in known:
            ndcg = recall = math.nan
        else:
            # Stable: texts of equal similarity keep the corpus order for both systems.
            ranked = [names[i] for i in np.argsort(-row, kind="stable")[:NDCG_DEPTH]]
            ndcg = ndcg_at_k({answer}, ranked, k=NDCG_DEPTH)
            recall = recall_at_k({answer}, ranked, k=RECALL_DEPTH)
        scores[f"ndcg_at_{NDCG_DEPTH}"].append(ndcg)
        scores[f"recall_at_{RECALL_DEPTH}"].append(recall)
    return scores
