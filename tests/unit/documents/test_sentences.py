from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.documents.sentences import sentence_spans


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Un. Deux ! Trois ?", ["Un.", "Deux !", "Trois ?"]),
        ("M. Dupont et Mme. Durand signent. Fin.", ["M. Dupont et Mme. Durand signent.", "Fin."]),
        ("Voir art. 12 et p. 3. Puis signer.", ["Voir art. 12 et p. 3.", "Puis signer."]),
        ("Le taux est de 3.5 % en 2024. Il baisse.", ["Le taux est de 3.5 % en 2024.", "Il baisse."]),
        ("Il dit : « Venez. » Elle vient.", ["Il dit : « Venez. »", "Elle vient."]),
        ("He left (at noon.) Then she came.", ["He left (at noon.)", "Then she came."]),
        ("Attendez... non. Si… Oui.", ["Attendez... non.", "Si…", "Oui."]),
        ("ligne un\nligne deux", ["ligne un", "ligne deux"]),
        ("e.g. this one. J. Smith came.", ["e.g. this one.", "J. Smith came."]),
        ("", []),
        (" \n ", []),
        ("sans point", ["sans point"]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(alphabet="aB.!? \n«»M"))
def test_every_visible_character_is_in_exactly_one_sentence(text: str) -> None:
    spans = sentence_spans(text)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert all(start < end and not text[start].isspace() and not text[end - 1].isspace() for start, end in spans)
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


def test_megabytes_of_marks_are_read_in_one_pass() -> None:
    assert sentence_spans("." * 2_000_000) == [(0, 2_000_000)]
    assert len(sentence_spans("a. " * 500_000)) == 1
    assert len(sentence_spans("A « » " * 500_000)) == 1
