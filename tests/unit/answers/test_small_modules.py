"""Duplicates, links, refusals and remembered vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from affinage.answers.duplicates import collapse
from affinage.answers.links import foreign_links, without_foreign_links
from affinage.answers.refusal import dont_know
from affinage.answers.vectors import RememberingEmbedder
from tests.support.passages import passage

LONG = "Parking permits are valid for two years and are renewed online before the end of the second year by their holder."


def test_copies_of_a_passage_count_once_and_the_first_stays():
    copies = [passage(LONG, chunk_id="a"), passage(LONG.upper(), chunk_id="b"), passage("Glass is collected on Mondays.", chunk_id="c")]
    assert [p.chunk_id for p in collapse(copies)] == ["a", "c"]


def test_a_passage_with_another_number_is_no_copy():
    assert len(collapse([passage(LONG, chunk_id="a"), passage(LONG.replace("two", "ten"), chunk_id="b")])) == 2


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example/a",
        "HTTP://EVIL.EXAMPLE",
        "//evil.example/x",
        "www.evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "mailto:a@evil.example",
        "[a](https://evil.example)",
        "![](https://evil.example/x.png)",
        '<img src="https://evil.example">',
        "ftp://evil.example/",
    ],
)
def test_a_link_of_the_models_own_does_not_survive(text: str):
    cleaned = without_foreign_links(f"see {text} now", ["nothing"])
    assert foreign_links(cleaned, []) == []
    assert "<" not in cleaned
    assert "](" not in cleaned


def test_a_link_that_stands_in_the_readers_text_survives():
    assert (
        without_foreign_links("see https://ville.example/permis now", ["at https://ville.example/permis"])
        == "see https://ville.example/permis now"
    )


def test_the_refusal_follows_the_language_and_says_nothing_of_rights():
    assert dont_know("fr") != dont_know("en")
    assert dont_know("xx") == dont_know("en")
    for language in ("fr", "en"):
        assert not any(word in dont_know(language).lower() for word in ("access", "accès", "droit", "right", "permission"))


class _Counting:
    fingerprint, weights_in_fingerprint, dimensions, max_tokens = "f", True, 2, 8

    def __init__(self) -> None:
        self.seen: list[str] = []

    def count_tokens(self, text: str) -> int:
        return len(text)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.seen += texts
        return np.array([[len(t), 1.0] for t in texts], dtype=np.float32)


def test_a_remembered_text_is_not_embedded_again_and_memory_is_bounded():
    inner = _Counting()
    embedder = RememberingEmbedder(inner, size=2)
    assert embedder.embed(["a", "bb", "a"]).tolist() == [[1, 1], [2, 1], [1, 1]]
    embedder.embed(["bb", "a"])
    assert inner.seen == ["a", "bb"]
    embedder.embed(["ccc"])
    embedder.embed(["bb"])
    assert inner.seen == ["a", "bb", "ccc", "bb"]
    assert embedder.embed([]).shape == (0, 2)
