import io
import zipfile

import docx
import pytest

from affinage.documents.extraction import extract
from affinage.errors import DocumentError
from tests.support.files import make_docx, make_encrypted_docx, make_zip_bomb_docx


def reason(data: bytes) -> str:
    with pytest.raises(DocumentError) as caught:
        extract(data, path="a.docx")
    return caught.value.reason


def with_body(xml: str) -> bytes:
    """A document whose body holds `xml`."""
    source = zipfile.ZipFile(io.BytesIO(make_docx(["x"])))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for item in source.infolist():
            part = source.read(item)
            if item.filename == "word/document.xml":
                start, end = part.index(b"<w:body>") + 8, part.index(b"<w:sectPr")
                part = part[:start] + xml.encode() + part[end:]
            target.writestr(item, part)
    return out.getvalue()


def test_headings_lists_and_tables_come_in_document_order() -> None:
    data = make_docx(
        [("title", "Guide"), "Début.", ("h2", "Règles"), ("bullet", "un"), ("number", "deux"), ("table", [["A", "B"], ["1", "2"]]), "Fin."]
    )
    found = [(block.kind, block.level, block.text) for block in extract(data, path="a.docx").blocks]
    assert found == [
        ("heading", 1, "Guide"),
        ("paragraph", None, "Début."),
        ("heading", 2, "Règles"),
        ("list_item", None, "un"),
        ("list_item", None, "deux"),
        ("table", None, "A | B\n1 | 2"),
        ("paragraph", None, "Fin."),
    ]


def test_the_title_of_the_properties_is_used_without_headings() -> None:
    assert extract(make_docx(["Texte."], title="Le titre"), path="a.docx").title == "Le titre"


def test_insertions_and_content_controls_are_read_and_deletions_are_not() -> None:
    xml = (
        "<w:p><w:r><w:t>garde </w:t></w:r><w:ins><w:r><w:t>ajout</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>non</w:delText></w:r></w:del></w:p>"
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>dedans</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>invisible</w:t></w:r></w:p>"
    )
    assert [block.text for block in extract(with_body(xml), path="a.docx").blocks] == ["garde ajout", "dedans"]


def test_outline_level_makes_a_heading() -> None:
    xml = '<w:p><w:pPr><w:outlineLvl w:val="2"/></w:pPr><w:r><w:t>Titre</w:t></w:r></w:p>'
    assert extract(with_body(xml), path="a.docx").blocks[0].level == 3


def test_a_style_based_on_a_heading_is_a_heading() -> None:
    document = docx.Document()
    style = document.styles.add_style("Maison", docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    style.base_style = document.styles["Heading 2"]
    document.add_paragraph("Chapitre", style="Maison")
    out = io.BytesIO()
    document.save(out)
    assert extract(out.getvalue(), path="a.docx").blocks[0].level == 2


def test_a_protected_document_is_told_from_a_damaged_one() -> None:
    assert reason(make_encrypted_docx()) == "password"
    assert reason(make_docx(["x"])[:3000]) == "damaged"
    assert reason(b"PK\x03\x04 not a zip") == "damaged"
    assert reason(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)) == "damaged"


def test_another_zip_file_is_damaged() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "x")
    assert reason(out.getvalue()) == "damaged"


def test_a_document_that_unpacks_to_too_much_is_refused_before_it_is_unpacked() -> None:
    bomb = make_zip_bomb_docx(80 << 20)
    assert len(bomb) < 1 << 20
    assert reason(bomb) == "too_large"


def test_entities_are_not_expanded() -> None:
    xml = "<w:p><w:r><w:t>&a;</w:t></w:r></w:p>"
    assert reason(with_body(xml)) in ("damaged", "no_text")


def test_deep_nesting_is_refused() -> None:
    assert reason(with_body("<w:sdt><w:sdtContent>" * 5000 + "</w:sdtContent></w:sdt>" * 5000)) == "damaged"


def test_a_document_without_text_has_no_text() -> None:
    assert reason(make_docx([])) == "no_text"
