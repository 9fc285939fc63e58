"""Spreadsheets, presentations and OpenDocument."""

from datetime import UTC, datetime

import pytest

from affinage.documents.extraction import extract
from affinage.errors import DocumentError
from tests.support.files import make_docx, make_encrypted_docx
from tests.support.office_files import make_odf, make_pptx, make_xlsx, make_zip, make_zip_bomb, with_part

TEXT = "<text:p>{}</text:p>"
ROW = "<table:table-row>{}</table:table-row>"
CELL = "<table:table-cell><text:p>{}</text:p></table:table-cell>"


def found(data: bytes, path: str) -> list[tuple[str, int | None, int | None, str]]:
    return [(block.kind, block.level, block.page, block.text) for block in extract(data, path=path).blocks]


def texts(data: bytes, path: str) -> list[str]:
    return [block.text for block in extract(data, path=path).blocks]


def reason(data: bytes, path: str) -> str:
    with pytest.raises(DocumentError) as caught:
        extract(data, path=path)
    assert caught.value.hint
    return caught.value.reason


# Spreadsheets


def test_a_sheet_becomes_tables_with_rows_under_its_name() -> None:
    data = make_xlsx({"Budget": [["Poste", "Montant"], ["Achats", 12], [], ["Note"]], "Feuil2": [["A", "B"], ["1", "2"]]})
    document = extract(data, path="a.xlsx")
    assert found(data, "a.xlsx") == [
        ("heading", 1, None, "Budget"),
        ("table", None, None, "Poste | Montant\nAchats | 12"),
        ("paragraph", None, None, "Note"),
        ("table", None, None, "A | B\n1 | 2"),
    ]
    assert document.blocks[1].rows == (("Poste", "Montant"), ("Achats", "12"))


def test_values_are_shown_and_formulas_are_not() -> None:
    data = make_xlsx({"Feuil1": [["Total", "Lien"], [("=SUM(A1:A9)", 42), ('=HYPERLINK("http://evil.example","clic")', "clic")]]})
    assert texts(data, "a.xlsx") == ["Total | Lien\n42 | clic"]


def test_numbers_are_shown_as_dates_and_percentages_where_their_format_says_so() -> None:
    day, morning = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    rows = [
        [(day, "dd/mm/yyyy"), (morning, 'dd" à "hh:mm'), (0.125, "0.0%"), (12.5, '#,##0.00" days"')],
        [0.1 + 0.2, True, 1e20, -3],
    ]
    assert texts(make_xlsx({"Feuil1": rows}), "a.xlsx") == ["2026-03-02 | 2026-03-02 09:30 | 12.5% | 12.5\n0.3 | TRUE | 1e+20 | -3"]


def test_a_caption_above_a_table_is_a_paragraph_so_that_the_first_row_is_the_header() -> None:
    blocks = extract(make_xlsx({"Feuil1": [["Effectifs 2026"], ["Service", "Agents"], ["RH", 4]]}), path="a.xlsx").blocks
    assert [block.kind for block in blocks] == ["paragraph", "table"]
    assert blocks[1].rows[0] == ("Service", "Agents")


def test_empty_cells_keep_their_column_and_empty_columns_go() -> None:
    rows = [["A", None, "B", "C"], ["1", None, None, "3"]]
    assert extract(make_xlsx({"Feuil1": rows}), path="a.xlsx").blocks[0].rows == (("A", "B", "C"), ("1", "", "3"))


def test_hidden_sheets_are_left_out() -> None:
    data = make_xlsx({"Vu": [["a", "b"], ["c", "d"]], "Caché": [["secret"]]}, hidden=["Caché"])
    assert "secret" not in extract(data, path="a.xlsx").text


def test_a_workbook_with_macros_is_read_and_the_macros_are_not() -> None:
    data = make_xlsx({"Feuil1": [["a", "b"]]})
    assert texts(with_part(data, "xl/vbaProject.bin", lambda _: b"Shell"), "a.xlsm") == ["a | b"]


# Presentations


def test_a_slide_is_a_page_with_its_title_points_and_notes() -> None:
    data = make_pptx([
        {"cover": "Sous-titre", "title": "Plan de formation"},
        {"title": "Règles", "bullets": ["un", "deux"], "box": "une boîte", "notes": "à dire"},
        {"title": "Table", "rows": [["A", "B"], ["1", "2"]]},
    ], title="Plan")  # fmt: skip
    assert found(data, "a.pptx") == [
        ("heading", 1, 1, "Plan de formation"),
        ("paragraph", None, 1, "Sous-titre"),
        ("heading", 2, 2, "Règles"),
        ("list_item", None, 2, "un"),
        ("list_item", None, 2, "deux"),
        ("paragraph", None, 2, "une boîte"),
        ("paragraph", None, 2, "à dire"),
        ("heading", 2, 3, "Table"),
        ("table", None, 3, "A | B\n1 | 2"),
    ]


def test_hidden_slides_are_left_out_and_the_others_keep_their_number() -> None:
    data = make_pptx([{"title": "un"}, {"title": "secret", "hidden": True}, {"title": "trois"}])
    assert [(page, text) for _, _, page, text in found(data, "a.pptx")] == [(1, "un"), (3, "trois")]


# OpenDocument


def test_an_open_document_text_becomes_blocks() -> None:
    body = (
        "<text:tracked-changes><text:deletion><text:p>supprimé</text:p></text:deletion></text:tracked-changes>"
        '<text:h text:outline-level="2">Titre</text:h><text:p>Un<text:s text:c="3"/>deux<text:line-break/>trois'
        "<office:annotation><text:p>remarque</text:p></office:annotation></text:p>"
        "<text:list><text:list-item><text:p>point</text:p><text:list><text:list-item><text:p>sous</text:p></text:list-item></text:list>"
        "</text:list-item></text:list><text:section><text:p>dans une section</text:p></text:section>"
    )
    assert found(make_odf(body, title="Guide"), "a.odt") == [
        ("heading", 2, None, "Titre"),
        ("paragraph", None, None, "Un deux\ntrois"),
        ("list_item", None, None, "point"),
        ("list_item", None, None, "sous"),
        ("paragraph", None, None, "dans une section"),
    ]


def test_a_footnote_follows_its_paragraph() -> None:
    note = "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>la note</text:p></text:note-body></text:note>"
    assert texts(make_odf(f"<text:p>Le texte{note} va.</text:p>"), "a.odt") == ["Le texte va.", "la note"]


def test_repeated_cells_are_repeated_and_a_million_empty_ones_cost_nothing() -> None:
    cells = (
        '<table:table-cell table:number-columns-repeated="2"><text:p>x</text:p></table:table-cell>'
        '<table:table-cell table:number-columns-repeated="16382"/>'
    )
    empty = (
        '<table:table-row table:number-rows-repeated="1048574"><table:table-cell table:number-columns-repeated="16384"/></table:table-row>'
    )
    body = f'<table:table table:name="Budget">{ROW.format(CELL.format("A") + CELL.format("B"))}{ROW.format(cells)}{empty}</table:table>'
    assert texts(make_odf(body, kind="spreadsheet"), "a.ods") == ["Budget", "A | B\nx | x"]


def test_a_formula_of_an_open_document_is_not_shown() -> None:
    cell = '<table:table-cell table:formula="of:=1+1" office:value="2"><text:p>2,00 €</text:p></table:table-cell>'
    body = f'<table:table table:name="B">{ROW.format(CELL.format("Total") + cell) * 2}</table:table>'
    assert texts(make_odf(body, kind="spreadsheet"), "a.ods")[1] == "Total | 2,00 €\nTotal | 2,00 €"


def test_a_slide_of_an_open_document_is_a_page() -> None:
    frame = '<draw:frame presentation:class="{}"><draw:text-box>{}</draw:text-box></draw:frame>'
    points = "<text:list><text:list-item><text:p>point</text:p></text:list-item></text:list>"
    frames = frame.format("outline", points) + frame.format("title", TEXT.format("Titre")) + frame.format("footer", TEXT.format("pied"))
    page = f"<draw:page>{frames}</draw:page>"
    assert found(make_odf(page * 2, kind="presentation"), "a.odp") == [
        ("heading", 2, 1, "Titre"), ("list_item", None, 1, "point"), ("heading", 2, 2, "Titre"), ("list_item", None, 2, "point"),
    ]  # fmt: skip


# What may be wrong

MADE = {
    "a.docx": (make_docx(["texte"]), "word/document.xml"),
    "a.xlsx": (make_xlsx({"B": [["a", "b"], ["c", "d"]]}), "xl/worksheets/sheet1.xml"),
    "a.pptx": (make_pptx([{"title": "un"}]), "ppt/slides/slide1.xml"),
    "a.odt": (make_odf("<text:p>texte</text:p>"), "content.xml"),
}


@pytest.mark.parametrize("path", MADE)
def test_what_would_unpack_to_ten_gigabytes_is_refused_unopened(path: str) -> None:
    data, part = MADE[path]
    bomb = make_zip_bomb(data, part, 300 << 20)
    assert len(bomb) < 1 << 20
    assert reason(bomb, path) == "too_large"


@pytest.mark.parametrize("path", MADE)
def test_a_part_that_lies_about_its_size_is_damaged(path: str) -> None:
    data, part = MADE[path]
    bomb = bytearray(make_zip_bomb(data, part, 300 << 20))
    entry = bomb.rindex(b"PK\x01\x02", 0, bomb.rindex(part.encode()))
    bomb[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    assert reason(bytes(bomb), path) in {"damaged", "too_large"}


@pytest.mark.parametrize("path", MADE)
def test_entities_are_not_replaced(path: str, tmp_path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the-secret")
    dtd = f'<!DOCTYPE x [<!ENTITY file SYSTEM "file://{secret}"><!ENTITY a "bombe"><!ENTITY b "&a;&a;">]>'.encode()
    data, part = MADE[path]

    def change(xml: bytes) -> bytes:
        head, sep, tail = xml.partition(b"?>") if xml.startswith(b"<?xml") else (b"", b"", xml)
        return head + sep + dtd + tail.replace(b"texte", b"texte &file; &b;").replace(b">un<", b">un &file; &b;<")

    try:
        text = extract(with_part(data, part, change), path=path).text
    except DocumentError:
        return
    assert "the-secret" not in text
    assert "bombe" not in text


@pytest.mark.parametrize("path", MADE)
def test_half_a_file_and_another_file_are_told_apart(path: str) -> None:
    data, _ = MADE[path]
    assert reason(data[: len(data) // 2], path) == "damaged"
    assert reason(b"%PDF-1.7\n", path) == "misnamed"
    assert reason(make_zip({"a.txt": "x"}), path) == "damaged"
    assert reason(make_encrypted_docx(), path) == "password"


def test_an_encrypted_open_document_is_protected() -> None:
    assert reason(make_odf("<text:p>x</text:p>", encrypted=True), "a.odt") == "password"


def test_deep_nesting_is_damaged_and_no_crash() -> None:
    deep = "<text:section>" * 5000 + "<text:p>x</text:p>" + "</text:section>" * 5000
    assert reason(make_odf(deep), "a.odt") == "damaged"


def test_relations_to_the_outside_are_not_followed() -> None:
    relation = b'<Relationship Id="rId1" TargetMode="External" Type="x" Target="http://127.0.0.1:9/sheet.xml"/></Relationships>'
    data = with_part(MADE["a.xlsx"][0], "xl/_rels/workbook.xml.rels", lambda xml: b"<Relationships>" + relation)
    assert reason(data, "a.xlsx") == "no_text"
