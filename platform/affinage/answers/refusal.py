"""What is said when nothing is known, in the question's language. Pure.

There is one text for a language, whether nothing was found or nothing is visible: it tells nothing of what is hidden.
"""

from __future__ import annotations

_TEXTS = {
    "fr": "Je ne sais pas : je n'ai pas trouvé de réponse dans les documents.",
    "en": "I don't know: I found no answer in the documents.",
}


def dont_know(language: str) -> str:
    """The refusal in `language`; English for a language that has no text here."""
    return _TEXTS.get(language, _TEXTS["en"])
