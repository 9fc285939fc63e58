"""CSV, JSON lines, XML and e-mail."""

import pytest

from affinage.documents.extraction import extract
from affinage.documents.extraction.csv import delimiter_of
from affinage.errors import DocumentError


def found(data: bytes | str, path: str, **options) -> list[tuple[str, int | None, str]]:
    raw = data.encode() if isinstance(data, str) else data
    return [(block.kind, block.level, block.text) for block in extract(raw, path=path, **options).blocks]


def reason(data: bytes | str, path: str) -> str:
    with pytest.raises(DocumentError) as caught:
        extract(data.encode() if isinstance(data, str) else data, path=path)
    assert caught.value.hint
    assert path in caught.value.message
    return caught.value.reason


# CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_delimiter_and_encoding_are_told_from_the_content(delimiter: str, encoding: str) -> None:
    rows = [["Nom", "Âge", "Ville"], ["Léa", "12", "Aix"], ["Paul", "13", "Lyon"]]
    data = "\r\n".join(delimiter.join(row) for row in rows).encode(encoding)
    assert extract(data, path="a.csv").blocks[0].rows == tuple(map(tuple, rows))


def test_quotes_hold_delimiters_and_line_ends() -> None:
    rows = extract(b'a;b\n"x;\ny";"say ""no"""\n', path="a.csv").blocks[0].rows
    assert rows == (("a", "b"), ("x; y", 'say "no"'))


def test_a_comma_in_numbers_is_no_delimiter() -> None:
    assert delimiter_of("a;b\n1,5;2,5\n3,5;4\n") == ";"


def test_the_delimiter_may_be_declared_in_the_first_line() -> None:
    assert extract(b"sep=,\na;x,b\n1;2,3\n", path="a.csv").blocks[0].rows == (("a;x", "b"), ("1;2", "3"))


def test_a_formula_in_csv_is_text() -> None:
    assert found("a,b\n=1+1,@x\n", "a.csv") == [("table", None, "a | b\n=1+1 | @x")]


# JSON lines


def test_a_record_is_a_heading_its_short_fields_and_its_long_ones() -> None:
    long = "Une phrase assez longue. " * 10
    line = f'{{"titre": "Congés", "jours": 25, "lieu": {{"ville": "Aix", "vide": null}}, "tags": ["a", "b"], "texte": "{long}"}}\n"seul"\n'
    assert found(line, "a.jsonl") == [
        ("heading", 2, "Congés"),
        ("paragraph", None, "jours: 25\nlieu.ville: Aix\ntags: a, b"),
        ("paragraph", None, long.strip()),
        ("paragraph", None, "seul"),
    ]


def test_a_line_that_is_not_json_is_named() -> None:
    with pytest.raises(DocumentError, match=r"Line 2 of a\.jsonl"):
        extract(b'{"a": 1}\n{"a": \n', path="a.jsonl")
    assert reason("[" * 100_000, "a.jsonl") == "damaged"


# XML


def test_usual_names_need_no_declaration() -> None:
    xml = (
        "<article><title>Un</title><section><title>Deux</title><p>Du <b>texte</b> ici.</p>"
        "<list><li>a</li><li><p>b</p><p>suite</p></li></list></section><table><row><c>A</c><c>B</c></row><row><c>1</c><c>2</c></row></table><champ>valeur</champ><champ>autre</champ></article>"
    )
    assert found(xml, "a.xml") == [
        ("heading", 1, "Un"),
        ("heading", 2, "Deux"),
        ("paragraph", None, "Du texte ici."),
        ("list_item", None, "a"),
        ("list_item", None, "b"),
        ("paragraph", None, "suite"),
        ("table", None, "A | B\n1 | 2"),
        ("paragraph", None, "valeur"),
        ("paragraph", None, "autre"),
    ]


def test_what_the_source_declares_counts_alone() -> None:
    xml = '<l:loi xmlns:l="urn:x"><nom>Code</nom><art><num>L. 1</num><p>Du texte.</p><note>cachée</note></art></l:loi>'
    declared = {"nom": "title", "num": "heading", "note": "skip"}
    document = extract(xml.encode(), path="a.xml", xml=declared)
    assert document.title == "Code"
    assert found(xml, "a.xml", xml=declared) == [("heading", 1, "Code"), ("heading", 1, "L. 1"), ("paragraph", None, "Du texte.")]


def test_text_between_blocks_is_kept() -> None:
    xml = "<x>avant <p>dedans</p> après <i>tout</i>.</x>"
    assert [text for *_, text in found(xml, "a.xml")] == ["avant", "dedans", "après tout."]


def test_no_entity_is_replaced_and_no_file_is_read(tmp_path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the-secret")
    xml = f'<!DOCTYPE x [<!ENTITY f SYSTEM "file://{secret}"><!ENTITY a "bombe">]><x><p>un &f;&a; deux</p></x>'
    assert [text for *_, text in found(xml, "a.xml")] == ["un deux"]


def test_a_billion_laughs_are_refused() -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    assert reason(f'<!DOCTYPE x [<!ENTITY e0 "ha">{entities}]><x><p>un &e9;</p></x>', "a.xml") == "damaged"


def test_fields_side_by_side_are_paragraphs() -> None:
    assert len(found("<x>" + "<champ>v</champ>" * 20_000 + "</x>", "a.xml")) == 20_000


@pytest.mark.parametrize("xml", ["<a><b></a>", "<a" * 3, "<a>" * 100_000, "text"])
def test_xml_that_is_not_well_formed_is_damaged(xml: str) -> None:
    assert reason(xml, "a.xml") == "damaged"


# E-mail

HEAD = (
    b"From: =?utf-8?b?TMOpYQ==?= <lea@x.fr>\r\nTo: b@x.fr\r\nDate: Mon, 2 Mar 2026 10:00:00 +0100\r\nSubject: Cong=?utf-8?q?=C3=A9?=s\r\n"
)
MIXED = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\n"


def test_a_message_shows_who_when_and_what_and_names_its_attachments() -> None:
    data = (
        HEAD
        + MIXED
        + b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\nBonjour, c'est l'\x9cuvre d'\xe9t\xe9.\r\n\r\n- un\r\n- deux\r\n--q\r\n"
        b'Content-Type: application/pdf\r\nContent-Disposition: attachment; filename="plan.pdf"\r\n\r\nxx\r\n--q--\r\n'
    )
    assert found(data, "a.eml") == [
        ("heading", 1, "Congés"),
        ("paragraph", None, "From: Léa <lea@x.fr>\nTo: b@x.fr\nDate: Mon, 02 Mar 2026 10:00:00 +0100"),
        ("paragraph", None, "Bonjour, c'est l'œuvre d'été."),
        ("list_item", None, "un"),
        ("list_item", None, "deux"),
        ("list_item", None, "[plan.pdf]"),
    ]


def test_a_message_in_html_only_is_read_without_what_is_hidden() -> None:
    data = HEAD + b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>Vu.</p><script>x()</script><p style='display:none'>cach\xc3\xa9</p>"
    assert [text for *_, text in found(data, "a.eml")][2:] == ["Vu."]


def test_plain_text_is_preferred_to_the_same_in_html() -> None:
    data = HEAD + (
        b"Content-Type: multipart/alternative; boundary=q\r\n\r\n--q\r\nContent-Type: text/html\r\n\r\n<p>html</p>\r\n"
        b"--q\r\nContent-Type: text/plain; charset=unknown-8bit\r\n\r\ntexte\r\n--q--\r\n"
    )
    assert [text for *_, text in found(data, "a.eml")][2:] == ["texte"]


def test_what_has_no_headers_is_no_message() -> None:
    assert reason("Bonjour.\n", "a.eml") == "damaged"
