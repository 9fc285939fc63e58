import codecs
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.documents.extraction.decoding import clean, decode
from affinage.errors import DocumentError

TEXT = "Élève à Noël — « œuvre » 25 €"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("cp1252"),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
    ],
)
def test_the_same_text_is_read_from_every_encoding(data: bytes) -> None:
    assert decode(data, path="a.txt") == TEXT


def test_bytes_that_no_decoder_reads_are_refused() -> None:
    with pytest.raises(DocumentError) as caught:
        decode(b"caf\xe9 \x81", path="a.txt")
    assert caught.value.reason == "encoding"


def test_utf_16_that_ends_inside_a_character_is_refused() -> None:
    with pytest.raises(DocumentError):
        decode(codecs.BOM_UTF16_LE + b"a\0b", path="a.txt")


def test_invisible_characters_are_removed_and_line_ends_unified() -> None:
    assert clean("a\x00b\u200bc\u202ed\ufeff\U000e0041\r\ne\rf\u2028g\th") == "abcd\ne\nf\ng\th"


def test_decomposed_text_is_composed() -> None:
    assert clean("e\u0301te\u0301") == "été"


def test_a_run_of_combining_marks_is_bounded() -> None:
    # Ordering the marks of such a run takes quadratic time: 2 million of them would never end.
    assert len(clean("a" + "\u0301\u0316" * 1_000_000)) <= 32


@given(st.text())
def test_clean_text_stays_clean_and_any_store_holds_it(text: str) -> None:
    once = clean(text)
    once.encode()
    assert clean(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert "\x00" not in once


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_a_document_error(data: bytes) -> None:
    try:
        text = decode(data, path="a.txt")
    except DocumentError:
        return
    clean(text).encode()
