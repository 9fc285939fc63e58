import pytest

from affinage.documents.extraction import SUPPORTED_SUFFIXES, dispatch, extract, extract_fingerprint, format_of
from affinage.errors import DocumentError


def reason(data: bytes, path: str) -> str:
    with pytest.raises(DocumentError) as caught:
        extract(data, path=path)
    assert caught.value.hint
    assert path in caught.value.message
    return caught.value.reason


@pytest.mark.parametrize("path", ["a.png", "a", "a.md.zip", ".md"])
def test_an_unknown_suffix_is_unsupported(path: str) -> None:
    assert reason(b"x", path) == "unsupported"


def test_the_suffix_counts_in_any_case() -> None:
    assert format_of("DIR/A.PDF") == "pdf"


@pytest.mark.parametrize("suffix", sorted(SUPPORTED_SUFFIXES))
def test_an_empty_file_has_no_text_in_any_format(suffix: str) -> None:
    assert reason(b"", f"a{suffix}") == "no_text"


@pytest.mark.parametrize("path", ["a.md", "a.txt", "a.html"])
def test_white_space_and_invisible_characters_are_no_text(path: str) -> None:
    assert reason(" \n\t\u200b\x00\n".encode(), path) == "no_text"


def test_a_file_beyond_the_limit_is_too_large(monkeypatch) -> None:
    monkeypatch.setattr(dispatch, "MAX_BYTES", 10)
    assert reason(b"x" * 11, "a.txt") == "too_large"


def test_text_beyond_the_limit_is_too_large(monkeypatch) -> None:
    monkeypatch.setattr(dispatch, "MAX_CHARACTERS", 10)
    assert reason(b"x" * 11, "a.txt") == "too_large"


def test_the_title_is_the_highest_heading_then_the_first_line() -> None:
    assert extract(b"## Deux\n\n# Un\n\nTexte.", path="a.md").title == "Un"
    assert extract(b"Note de service\nsuite", path="un-nom.txt").title.startswith("Note de service")


def test_the_result_does_not_depend_on_the_name() -> None:
    assert extract(b"Bonjour.", path="a/b.txt") == extract(b"Bonjour.", path="c.TXT")


def test_a_long_first_line_is_cut_at_a_word() -> None:
    title = extract(b"mot " * 1000, path="a.txt").title
    assert len(title) <= 201
    assert title.endswith("mot…")


def test_the_language_is_told() -> None:
    assert extract("Les agents déposent leur demande quinze jours avant.".encode(), path="a.txt").language == "fr"
    assert extract(b"Employees hand in their request two weeks before.", path="a.txt").language == "en"


def test_the_fingerprint_names_the_parsers() -> None:
    assert "pypdfium2-" in extract_fingerprint(None)


def test_the_fingerprint_depends_on_what_is_declared_of_xml() -> None:
    given = {"num": "heading", "p": "paragraph"}
    assert extract_fingerprint(given) == extract_fingerprint(dict(reversed(given.items())))
    assert len({extract_fingerprint(None), extract_fingerprint(given), extract_fingerprint({"num": "skip"})}) == 3
