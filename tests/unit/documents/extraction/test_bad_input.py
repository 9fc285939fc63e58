"""Whatever the bytes are, a document gives blocks, or a reason and what to do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affinage.documents.extraction import SUPPORTED_SUFFIXES, extract
from affinage.documents.extraction.dispatch import FORMATS
from affinage.errors import DocumentError
from tests.support.files import make_docx, make_encrypted_pdf, make_pdf
from tests.support.office_files import make_odf, make_pptx, make_xlsx, make_zip

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
MADE = {
    "a.md": "# Titre\n\nDu texte, *souligné*.\n\n- un\n\n| A | B |\n|---|---|\n| 1 | 2 |\n".encode(),
    "a.txt": b"Du texte.\n\n- un point\n",
    "a.html": b"<html><body><h1>T</h1><p>Du texte</p><table><tr><td>1</td><td>2</td></tr></table></body></html>",
    "a.docx": make_docx([("h1", "Titre"), "Du texte.", ("table", [["A", "B"], ["1", "2"]])]),
    "a.pdf": make_pdf([("h1", "Titre"), "Du texte.", ("table", [["A", "B"], ["1", "2"]])]),
    "a.pptx": make_pptx([{"title": "Titre", "bullets": ["un"]}]),
    "a.xlsx": make_xlsx({"B": [["a", 1], ["b", ("=1+1", 2)]]}),
    "a.odt": make_odf("<text:p>Du texte.</text:p>"),
    "a.csv": b"a;b\n1;2\n",
    "a.jsonl": b'{"title": "a", "b": [1, 2]}\n{"c": null, "d": "e"}\n',
    "a.xml": b"<x><title>t</title><p>Du <b>texte</b>.</p></x>",
    "a.eml": b"From: a@b.fr\r\nSubject: s\r\nContent-Type: text/html\r\n\r\n<p>Du texte.</p>",
}


def reason(data: bytes, path: str) -> str:
    with pytest.raises(DocumentError) as caught:
        extract(data, path=path)
    assert caught.value.hint
    assert path in caught.value.message
    return caught.value.reason


def check(data: bytes, path: str) -> None:
    error = None
    try:
        document = extract(data, path=path)
    except DocumentError as caught:
        error = caught
    if error is not None:
        assert error.hint
        assert path in error.message
        return
    assert document.blocks
    assert all(block.text.strip() for block in document.blocks)
    for block, (start, end) in zip(document.blocks, document.spans(), strict=True):
        assert document.text[start:end] == block.text


def test_each_format_has_an_example() -> None:
    assert {FORMATS[f".{path.rpartition('.')[2]}"] for path in MADE} == set(FORMATS.values())


@pytest.mark.parametrize("path", MADE)
def test_the_examples_are_read(path: str) -> None:
    assert extract(MADE[path], path=path).blocks


# PDFium rejects mutated files slowly on a busy machine: no deadline.
@settings(deadline=None, max_examples=400)
@given(st.data())
def test_mutated_documents_give_blocks_or_a_document_error(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(MADE)))
    raw = bytearray(MADE[path])
    for _ in range(data.draw(st.integers(1, 8))):
        where = data.draw(st.integers(0, max(len(raw) - 1, 0)))
        length = data.draw(st.sampled_from([0, 1, 1, 2, 8, 64]))
        raw[where : where + length] = data.draw(st.binary(max_size=8))
    check(bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw), path)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(sorted(SUPPORTED_SUFFIXES)))
def test_random_bytes_give_blocks_or_a_document_error(data: bytes, suffix: str) -> None:
    check(data, f"a{suffix}")


@pytest.mark.parametrize("path", MADE)
def test_an_empty_document_has_no_text(path: str) -> None:
    assert reason(b"", path) == "no_text"


@pytest.mark.parametrize("path", MADE)
def test_a_picture_under_a_wrong_name_is_misnamed(path: str) -> None:
    assert reason(PNG, path) == "misnamed"


@pytest.mark.parametrize("path", [path for path in MADE if path != "a.pdf"])
def test_a_pdf_under_a_wrong_name_is_misnamed(path: str) -> None:
    assert reason(MADE["a.pdf"], path) == "misnamed"


@pytest.mark.parametrize("path", ["a.md", "a.txt", "a.html", "a.csv", "a.jsonl", "a.xml", "a.eml"])
def test_binary_data_under_the_name_of_a_text_is_misnamed(path: str) -> None:
    assert reason(bytes(range(256)) * 20, path) == "misnamed"
    assert reason(make_zip({"x": "y"}), path) == "misnamed"


@pytest.mark.parametrize("path", ["a.docx", "a.xlsx", "a.pptx", "a.odt", "a.pdf"])
def test_half_a_document_is_damaged(path: str) -> None:
    assert reason(MADE[path][: len(MADE[path]) // 3], path) == "damaged"


@pytest.mark.parametrize("other", ["a.docx", "a.xlsx", "a.pptx", "a.odt"])
@pytest.mark.parametrize("path", ["a.docx", "a.xlsx", "a.pptx", "a.odt"])
def test_one_office_format_under_the_name_of_another_is_damaged(path: str, other: str) -> None:
    if path != other:
        assert reason(MADE[other], path) == "damaged"


def test_a_protected_pdf_asks_for_a_copy_without_password() -> None:
    assert reason(make_encrypted_pdf(), "a.pdf") == "password"


def test_old_text_without_utf8_is_read_as_windows_1252() -> None:
    assert extract("Été à l'œuvre".encode("cp1252"), path="a.csv").blocks[0].text == "Été à l'œuvre"


def test_a_page_with_scripts_is_its_visible_text() -> None:
    page = b"<p>Vu.</p><script>alert('x')</script><style>p{}</style><p onclick='x()'>Aussi.</p><template>non</template>"
    assert extract(page, path="a.html").text == "Vu.\n\nAussi."
