import pytest

from affinage.documents.extraction import extract
from affinage.errors import DocumentError
from tests.support.files import make_encrypted_pdf, make_lines_pdf, make_pdf

LONG = "Les agents déposent leur demande de congé au moins quinze jours avant la date prévue. " * 5


def found(data: bytes) -> list[tuple[str, int | None, int | None, str]]:
    return [(block.kind, block.level, block.page, block.text) for block in extract(data, path="a.pdf").blocks]


def reason(data: bytes) -> str:
    with pytest.raises(DocumentError) as caught:
        extract(data, path="a.pdf")
    assert caught.value.hint
    return caught.value.reason


def test_headings_paragraphs_lists_and_tables_come_with_their_page() -> None:
    data = make_pdf(
        [("title", "Guide"), LONG, ("h2", "Règles"), ("bullet", "un point"), ("number", "une étape"), ("table", [["A", "B"], ["1", "2"]]),
         ("page", None), LONG, "Fin."]
    )  # fmt: skip
    assert found(data) == [
        ("heading", 1, 1, "Guide"),
        ("paragraph", None, 1, LONG.strip()),
        ("heading", 2, 1, "Règles"),
        ("list_item", None, 1, "un point"),
        ("list_item", None, 1, "une étape"),
        ("table", None, 1, "A | B\n1 | 2"),
        ("paragraph", None, 2, LONG.strip()),
        ("paragraph", None, 2, "Fin."),
    ]


def test_running_headers_footers_and_page_numbers_are_dropped() -> None:
    parts = [("h2", "Un"), LONG, ("page", None), ("h2", "Deux"), LONG, ("page", None), ("h2", "Trois"), LONG]
    texts = [text for *_, text in found(make_pdf(parts, header="Ministère — édition 2026", footer="Page {page} / 3"))]
    assert texts == ["Un", LONG.strip(), "Deux", LONG.strip(), "Trois", LONG.strip()]


def test_a_page_number_alone_is_dropped_on_a_single_page() -> None:
    assert [text for *_, text in found(make_pdf([LONG], footer="1"))] == [LONG.strip()]


def test_a_document_of_nothing_but_repeated_lines_keeps_them() -> None:
    assert [text for *_, text in found(make_lines_pdf([[(72, 800, "Avis.")], [(72, 800, "Avis.")]]))] == ["Avis.", "Avis."]


def test_words_cut_at_line_ends_become_whole_and_compounds_keep_their_hyphen() -> None:
    lines = [
        "Le texte traite de l'informa-",
        "tion des agents et peut-",
        "être de la sous-",
        "traitance, car la sous-traitance est",
        "fréquente.",
    ]
    data = make_lines_pdf([[(72, 700 - 12 * number, line) for number, line in enumerate(lines)]])
    expected = "Le texte traite de l'information des agents et peut-être de la sous-traitance, car la sous-traitance est fréquente."
    assert [text for *_, text in found(data)] == [expected]


def test_a_sentence_goes_on_over_a_page_break() -> None:
    data = make_lines_pdf([[(72, 700, "La phrase va"), (300, 30, "1")], [(72, 700, "plus loin."), (300, 30, "2")]])
    assert found(data) == [("paragraph", None, 1, "La phrase va plus loin.")]


def test_two_columns_are_read_one_after_the_other() -> None:
    left = [(72, 700 - 12 * number, f"gauche {number} du texte de la colonne") for number in range(5)]
    right = [(320, 700 - 12 * number, f"droite {number} du texte de la colonne") for number in range(5)]
    text = " ".join(text for *_, text in found(make_lines_pdf([left + right])))
    assert text.index("gauche 4") < text.index("droite 0")


def test_a_protected_pdf_is_told_from_a_damaged_one() -> None:
    assert reason(make_encrypted_pdf()) == "password"
    assert reason(b"%PDF-1.7 nothing") == "damaged"
    assert reason(make_pdf([LONG])[:200]) == "damaged"


def test_a_password_for_changes_only_does_not_hinder_reading() -> None:
    assert found(make_pdf(["Texte lisible."], password=""))[0][3] == "Texte lisible."


def test_the_title_of_the_properties_is_used_unless_a_program_made_it_up() -> None:
    assert extract(make_pdf(["Texte."], title="Le guide"), path="a.pdf").title == "Le guide"
    assert extract(make_pdf(["Texte."], title="untitled"), path="a.pdf").title == "Texte."
