import pytest

from affinage.documents.languages import detect


@pytest.mark.parametrize(
    "text", ["Combien de jours ?", "Délai remboursement", "Quelle est la procédure ?", "Les agents déposent leur demande. " * 20]
)
def test_french_is_told(text: str) -> None:
    assert detect(text) == "fr"


@pytest.mark.parametrize(
    "text", ["How many days?", "What is the procedure?", "leave of absence", "Employees hand in their requests. " * 20]
)
def test_english_is_told(text: str) -> None:
    assert detect(text) == "en"


def test_only_the_given_languages_are_answered() -> None:
    assert detect("Wie viele Tage?", ("fr", "en")) in ("fr", "en")
    assert detect("Wie viele Tage?", ("fr", "de")) == "de"
    assert detect("Quanti giorni di ferie ha un dipendente? " * 10, ("it",)) == "it"


@pytest.mark.parametrize("text", ["", "123", "?!", "  \n"])
def test_a_text_without_words_is_in_the_first_language(text: str) -> None:
    assert detect(text, ("en", "fr")) == "en"


def test_a_language_nobody_trained_for_falls_back_to_the_first() -> None:
    assert detect("palabras sin modelo conocido " * 20, ("xx", "yy")) == "xx"


def test_no_language_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least one"):
        detect("a", ())
