"""What is said when nothing is known, in the question's language. Pure.

There is one text for a language, whether nothing was found or nothing is visible: it tells nothing of what is hidden.
"""

from __future__ import annotations

_SEARCHED = {
    "fr": "Je ne sais pas : je n'ai pas trouvé de réponse dans les documents.",
    "en": "I don't know: I found no answer in the documents.",
}
_UNSEARCHED = {
    "fr": "Je ne sais pas : je n'ai pas de réponse sûre à donner.",
    "en": "I don't know: I have no sound answer to give.",
}


def dont_know(language: str, *, searched: bool = True) -> str:
    """The refusal in `language`; English for a language that has no text here.

    `searched` says whether the assistant has documents at all.
    """
    texts = _SEARCHED if searched else _UNSEARCHED
    return texts.get(language, texts["en"])
