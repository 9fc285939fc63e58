from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.answers.grounding import cite
from affinage.answers.quotes import locate, still_holds
from tests.support.passages import passage

TEXT = "A permit is valid for two years. It costs 40 euros.\n\nRenew it online, not at the counter."


def test_an_exact_quote_is_located_in_the_documents_offsets():
    found = locate("It costs 40 euros.", passage(TEXT, start=100))
    assert found == (100 + TEXT.index("It costs"), 100 + TEXT.index("It costs") + len("It costs 40 euros."))


@pytest.mark.parametrize(
    "forged",
    [
        "It costs 400 euros.",  # another number
        "It costs 40 euros. Renew it online",  # spliced across blocks
        "40 euros.\n\nRenew",  # across blocks with the separator
        "It  costs 40 euros.",  # another space
        "It costs 40\u00a0euros.",  # no-break space
        "It cost\u0455 40 euros.",  # Cyrillic letter
        "it costs 40 euros.",  # another case
        "It costs 40 euros.\ud800",  # surrogate
        "",
        "   ",
    ],
)
def test_a_quote_that_differs_in_one_character_is_not_located(forged: str):
    assert locate(forged, passage(TEXT)) is None


def test_a_citation_holds_while_its_chunk_is_visible_and_unchanged():
    before = passage(TEXT, start=7)
    citation = cite(before, 7, 7 + 32, n=1)
    assert still_holds(citation, before)
    assert not still_holds(citation, None)
    assert not still_holds(citation, replace(before, text=TEXT.replace("two", "ten")))
    assert not still_holds(citation, replace(before, chunk_id="other"))
    assert not still_holds(citation, replace(before, start=8, end=before.end + 1))


@pytest.mark.parametrize(
    "change", [{"start": 8}, {"end": 38}, {"quote": "A permit is valid for ten years."}, {"start": -1, "end": 31}, {"quote": " " * 32}]
)
def test_a_citation_with_shifted_offsets_or_another_text_does_not_hold(change: dict[str, object]):
    before = passage(TEXT, start=7)
    assert not still_holds(replace(cite(before, 7, 7 + 32, n=1), **change), before)


@given(st.text(min_size=1, max_size=40), st.integers(0, 50), st.data())
def test_any_piece_of_one_block_is_located_and_holds(text: str, start: int, data: st.DataObject):
    found = passage(text.replace("\n\n", "\n"), start=start)
    first = data.draw(st.integers(0, len(found.text) - 1))
    last = data.draw(st.integers(first + 1, len(found.text)))
    quote = found.text[first:last]
    if not quote.strip():
        assert locate(quote, found) is None
        return
    assert locate(quote, found) is not None
    assert still_holds(cite(found, start + first, start + last, n=1), found)
