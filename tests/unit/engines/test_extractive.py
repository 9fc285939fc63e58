from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from affinage.engines.extractive import THRESHOLD, Excerpt, content_words, rank_sentences, select_sentences


class Letters:
    """Vectors of letter counts: texts with the same letters are alike."""

    fingerprint, dimensions, max_tokens = "letters", 26, 1000

    def count_tokens(self, text: str) -> int:
        return len(text)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.array([[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts], dtype=np.float32) + 1e-6
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def plain(*sentences: str) -> list[Excerpt]:
    return [Excerpt(sentence) for sentence in sentences]


def test_a_title_tells_which_of_two_equal_sentences_answers() -> None:
    excerpts = [Excerpt("Il faut compter dix jours.", "Carte grise"), Excerpt("Il faut compter dix jours.", "Passeport")]
    assert select_sentences("Quel est le délai du passeport ?", excerpts, embedder=Letters())[0] == 1


def test_the_sentence_with_the_words_of_the_question_comes_first() -> None:
    sentences = plain("Le parking ferme à 20 heures.", "Le passeport coûte 86 euros.", "La cantine accueille 200 élèves.")
    scores = rank_sentences("Combien coûte un passeport ?", sentences, embedder=Letters())
    assert scores.argmax() == 1
    assert select_sentences("Combien coûte un passeport ?", sentences, embedder=Letters())[0] == 1


def test_nothing_alike_gives_nothing() -> None:
    assert select_sentences("zzz", plain("aaa", "bbb"), embedder=Letters()) == []


def test_no_sentences_give_no_scores() -> None:
    assert rank_sentences("question", [], embedder=Letters()).shape == (0,)
    assert select_sentences("question", [], embedder=Letters()) == []


def test_a_question_of_stop_words_only_is_scored_by_meaning() -> None:
    scores = rank_sentences("Que faire ?", plain("Que faire ?"), embedder=Letters(), lexical_weight=0.35)
    assert scores[0] == pytest.approx(0.65, abs=1e-3)


def test_words_match_across_accents_case_and_endings() -> None:
    assert content_words("Délivrée") == content_words("delivres")
    assert content_words("The permits") & content_words("a PERMIT") == {"permi"}
    assert content_words("le la les et of the") == frozenset()


@given(st.lists(st.text(alphabet="abcdé <|", min_size=1, max_size=20), min_size=1, max_size=6), st.integers(1, 4))
def test_selected_sentences_are_distinct_sorted_by_score_and_above_the_threshold(sentences: list[str], limit: int) -> None:
    scores = rank_sentences("abc dé", plain(*sentences), embedder=Letters())
    chosen = select_sentences("abc dé", plain(*sentences), embedder=Letters(), limit=limit)
    assert len(set(chosen)) == len(chosen) <= limit
    assert all(scores[i] >= THRESHOLD for i in chosen)
    assert [scores[i] for i in chosen] == sorted((scores[i] for i in chosen), reverse=True)
