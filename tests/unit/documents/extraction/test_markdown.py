from affinage.documents.extraction import extract, markdown


def blocks(text: str) -> list[tuple[str, str]]:
    return [(block.kind, block.text) for block in extract(text.encode(), path="a.md").blocks]


def test_headings_paragraphs_lists_tables_and_code_come_in_order() -> None:
    found = blocks("# Congés *payés*\n\nUn **mot**\nsuite.\n\n- un\n  - deux\n- trois\n\n|A|B|\n|-|-|\n|1|2|\n\n```py\nx = 1\n\ny\n```\n")
    assert found == [
        ("heading", "Congés payés"),
        ("paragraph", "Un mot suite."),
        ("list_item", "un"),
        ("list_item", "deux"),
        ("list_item", "trois"),
        ("table", "A | B\n1 | 2"),
        ("code", "x = 1\n\ny"),
    ]


def test_table_keeps_its_cells() -> None:
    table = extract(b"|A|B|\n|-|-|\n|1||\n", path="a.md").blocks[0]
    assert table.rows == (("A", "B"), ("1", ""))


def test_heading_level_is_kept() -> None:
    assert [block.level for block in extract(b"# a\n\n### b\n\nc\n-\n", path="a.md").blocks] == [1, 3, 2]


def test_front_matter_gives_the_title_and_is_no_text() -> None:
    document = extract(b'---\ntitle: "Le guide"\n---\n\nBonjour.\n', path="a.md")
    assert document.title == "Le guide"
    assert [block.text for block in document.blocks] == ["Bonjour."]


def test_links_and_comments_leave_their_visible_text_only() -> None:
    assert blocks("Voir [le site](http://x.test) <!-- secret --> ici.") == [("paragraph", "Voir le site ici.")]
    assert blocks("<!-- secret -->\n\n<div>vu<script>non</script></div>") == [("paragraph", "vu")]


def test_long_text_is_parsed_in_pieces_without_loss_and_outside_code(monkeypatch) -> None:
    monkeypatch.setattr(markdown, "PIECE", 100)
    paragraphs = [f"Paragraphe numéro {number}." for number in range(50)]
    code = "\n\n".join(f"ligne {number}" for number in range(10))
    text = "\n\n".join([*paragraphs, f"```\n{code}\n```", "Fin."])
    assert blocks(text) == [*(("paragraph", p) for p in paragraphs), ("code", code), ("paragraph", "Fin.")]


def test_a_very_long_paragraph_keeps_its_text() -> None:
    text = "mot [a " * 20_000
    assert len(blocks(text)[0][1].split()) == 40_000
