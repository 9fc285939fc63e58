import pytest

from affinage.documents.extraction import extract
from affinage.errors import DocumentError


def blocks(text: str) -> list[tuple[str, str]]:
    return [(block.kind, block.text) for block in extract(text.encode(), path="a.html").blocks]


def test_blocks_come_in_order() -> None:
    page = "<h1>Un <b>titre</b></h1>texte<p>para <br>ligne<ul><li>un<ul><li>deux</ul><li><p>trois</p><p>suite</p></ul><pre>a  b\n c</pre>"
    assert blocks(page) == [
        ("heading", "Un titre"),
        ("paragraph", "texte"),
        ("paragraph", "para\nligne"),
        ("list_item", "un"),
        ("list_item", "deux"),
        ("list_item", "trois"),
        ("paragraph", "suite"),
        ("code", "a  b\n c"),
    ]


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>x</script>",
        "<style>x</style>",
        "<nav><ul><li>x</ul></nav>",
        "<!-- x -->",
        "<p hidden>x</p>",
        '<div style="color:red; Display : none">x<p>x</p></div>',
        '<span aria-hidden="true">x</span>',
        '<p style="visibility:hidden">x',
        '<div role="navigation">x</div>',
        "<template><p>x</p></template>",
        '<span style="font-size:0">x</span>',
    ],
)
def test_what_a_reader_does_not_see_is_dropped(hidden: str) -> None:
    assert blocks(f"<p>avant</p>{hidden}<p>après</p>") == [("paragraph", "avant"), ("paragraph", "après")]


def test_table_with_caption_and_unclosed_cells() -> None:
    found = extract("<table><caption>Légende</caption><tr><th>A<th>B<tr><td>1<td><p>x</p><p>y</p></table>".encode(), path="a.html").blocks
    assert [block.kind for block in found] == ["paragraph", "table"]
    assert found[1].rows == (("A", "B"), ("1", "x y"))


def test_title_element_is_used_without_headings_and_is_no_block() -> None:
    document = extract(b"<title>Le titre</title><p>Texte.</p>", path="a.html")
    assert document.title == "Le titre"
    assert [block.text for block in document.blocks] == ["Texte."]


def test_entities_are_cleaned_like_other_text() -> None:
    assert blocks("<p>e&#769;t&eacute;&#0;&#8203;</p>") == [("paragraph", "été")]


def test_declared_encoding_is_used_when_the_page_is_not_utf_8() -> None:
    page = '<meta charset="iso-8859-5"><p>Привет</p>'.encode("iso-8859-5")
    assert extract(page, path="a.html").blocks[0].text == "Привет"


def test_windows_1252_is_read_when_nothing_is_declared() -> None:
    assert extract("<p>été — œuvre</p>".encode("cp1252"), path="a.html").blocks[0].text == "été — œuvre"


def test_deep_nesting_is_refused_and_ordinary_depth_is_not() -> None:
    assert blocks("<div>" * 3000 + "fond" + "</div>" * 3000) == [("paragraph", "fond")]
    with pytest.raises(DocumentError) as caught:
        extract(b"<div>" * 200_000, path="a.html")
    assert caught.value.reason == "damaged"
