"""The engine without a language model: which sentences answer a question.

A sentence scores by meaning (cosine of embeddings) and by words (share of the question's content words it holds), both read
under the title and headings it stands under: "Quarante-huit heures avant." answers nothing by itself. Called by answers.
Pure: receives an embedder, knows nothing of documents or rights.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affinage.engines.protocols import Embedder

LEXICAL_WEIGHT = 0.35
THRESHOLD = 0.45
# On the demo's corpus (132 paraphrased questions, 9 that nothing answers): with titles the right sentence is quoted for 17 % of
# the questions and 8 of the 9 are refused; by the sentence alone, 1 %.
_STEM = 5  # letters; French and English inflect at the end of a word
_WORD = re.compile(r"[^\W_]+")
_STOP_WORDS = frozenset(
    _WORD.findall("""
    a ai ainsi alors as au aux avec avoir c ca car ce ceci cela celle celui ces cet cette chaque combien comme comment d dans de des dois
    doit doivent donc du elle elles en encore entre est et etre eu faire fait faut ici il ils j je l la laquelle le lequel les leur leurs
    lui m ma mais me mes moi mon n ne nos notre nous on ont ou par pas peut peux plus pour pourquoi qu quand que quel quelle quelles quels
    qui quoi s sa sans se sera ses si son sont sur t ta te tes toi ton tous tout toute toutes tu un une vos votre vous y
    about after all also am an and any are be been before but by can could did do does for from had has have he her his how i if in into
    is it its may me more must my no not of off on or our out she should so some than that the their them then there these they this to up
    us was we were what when where which who whom why will with would you your
    """)
)


class Excerpt(NamedTuple):
    """A sentence, and the title of its document and the headings above it, where there are any."""

    sentence: str
    title: str = ""
    heading: str = ""

    def in_context(self) -> str:
        """What is embedded."""
        return f"{self.title}. {self.sentence}" if self.title else self.sentence


def rank_sentences(
    question: str, excerpts: Sequence[Excerpt], *, embedder: Embedder, lexical_weight: float = LEXICAL_WEIGHT
) -> NDArray[np.float64]:
    """How well each sentence answers the question.

    Parameters
    ----------
    lexical_weight
        Weight of shared words; the rest is the cosine.

    Returns
    -------
    NDArray
        Scores, shape (n_excerpts,), at most 1. A score says something across questions: below `THRESHOLD` nothing answers.
    """
    if not excerpts:
        return np.zeros(0)
    vectors = embedder.embed([question, *(excerpt.in_context() for excerpt in excerpts)])
    cosine = (vectors[1:] @ vectors[0]).astype(np.float64)
    words = content_words(question)
    shared = np.array([len(words & content_words(" ".join(excerpt))) / len(words) if words else 0.0 for excerpt in excerpts])
    scores: NDArray[np.float64] = (1 - lexical_weight) * cosine + lexical_weight * shared
    return scores


def select_sentences(
    question: str, excerpts: Sequence[Excerpt], *, embedder: Embedder, threshold: float = THRESHOLD, limit: int = 3
) -> list[int]:
    """Indices of the sentences that answer, best first; empty when none reaches `threshold`.

    The first one decides whether the question is answered at all; others follow only when they are nearly as good.
    """
    scores = rank_sentences(question, excerpts, embedder=embedder)
    order = [int(i) for i in np.argsort(-scores, kind="stable")]
    if not order or scores[order[0]] < threshold:
        return []
    floor = max(threshold, float(scores[order[0]]) - 0.1)
    return [i for i in order if scores[i] >= floor][:limit]


def content_words(text: str) -> frozenset[str]:
    """Words that carry meaning, without case, accents and endings."""
    folded = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return frozenset(word[:_STEM] for word in _WORD.findall(folded.replace("œ", "oe")) if word not in _STOP_WORDS and len(word) > 1)
