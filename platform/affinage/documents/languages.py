"""The language of a text, among those an installation uses.

Trained identifiers fail on questions of three words, so function words decide there first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

SHORT = 200
# Characters below which the language with more function words wins; in a longer text it must have many more.
CLEAR, CLEAR_RATIO, CLEAR_CHARACTERS = 10, 3, 2_000
# So many function words in the first characters, and so many times those of the next language: the trained model says the
# same of 77 texts of this repository that are so clear, and takes thirty times as long.
MODEL_CHARACTERS = 1_500
# The model reads byte by byte, 0.3 µs each, and tells two languages apart by far less.

FUNCTION_WORDS = {
    "fr": "le la les un une des du de au aux et ou où est sont dans pour par sur avec sans ce cette ces mon ma mes son sa ses notre nos"
    " votre vos leur leurs je tu il elle on nous vous ils elles ne pas plus que qui quoi quel quelle quels quelles comment combien quand"
    " pourquoi y en se si faut dois puis peut doit être avoir fait d l qu n s c j m jusqu",
    "en": "the a an of to in on at by for from with without and or is are was were be been this that these those my his her its our your"
    " their i you he she it we they not no what which who whom how many much when where why do does did can could must should will would"
    " have has had there if as than into about",
    "de": "der die das ein eine einen dem den des und oder ist sind in im zu mit ohne für von auf wie was wann wo warum ich du er sie es"
    " wir ihr nicht kein muss kann wird haben hat",
    "es": "el la los las un una unos unas de del al y o es son en por para con sin que qué quién cuál cómo cuándo cuánto dónde yo tú él"
    " ella nosotros no se su sus hay debe puede",
    "it": "il lo la i gli le un una di del della dei e o è sono in per con senza che chi quale come quando quanto dove io tu lui lei noi"
    " non si suo sua deve può",
}
_WORDS = {language: frozenset(words.split()) for language, words in FUNCTION_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")
_FRENCH_LETTERS = re.compile(r"[àâçèéêëîïôùûœÀÂÇÈÉÊËÎÏÔÙÛŒ]")


def detect(text: str, among: Sequence[str] = ("fr", "en")) -> str:
    """The language of `text`, one of `among` (ISO 639-1).

    The first of `among` when nothing in the text tells. Deterministic.
    """
    if not among:
        raise ValueError("among is empty; expected at least one language code")
    if len(among) == 1 or not _WORD.search(text):
        return among[0]
    votes = _votes(text[:CLEAR_CHARACTERS], among)
    best = sorted(votes.values(), reverse=True)
    clear = best[0] > best[1] if len(text) < SHORT else best[0] >= max(CLEAR, CLEAR_RATIO * best[1])
    return max(among, key=lambda language: votes[language]) if clear else _by_model(text[:MODEL_CHARACTERS], among)


def load(among: Sequence[str] = ("fr", "en")) -> None:
    """Read the trained model now: it is unpacked into a file, which a process may not be allowed later."""
    _model(tuple(among))


def _votes(text: str, among: Sequence[str]) -> dict[str, float]:
    words = _WORD.findall(text.lower())
    votes = {language: float(sum(map(_WORDS.get(language, frozenset()).__contains__, words))) for language in among}
    if "fr" in votes and "en" in votes and len(votes) == 2:
        # English words carry none of these; French ones often do.
        votes["fr"] += 0.5 * len(_FRENCH_LETTERS.findall(text))
    return votes


def _by_model(text: str, among: Sequence[str]) -> str:
    model = _model(tuple(among))
    return among[0] if model is None else str(model.classify(text)[0])


@lru_cache(maxsize=16)
def _model(among: tuple[str, ...]) -> Any:
    """The trained identifier, restricted to `among`; None when it knows none of them."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]  # noqa: PLC0415 - reads a model file

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    known = [language for language in among if language in identifier.labels]
    if not known:
        return None
    identifier.set_languages(known)
    return identifier
