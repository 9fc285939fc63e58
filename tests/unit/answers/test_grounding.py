from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.answers.grounding import MAX_SENTENCES, ground
from tests.support.passages import passage

PERMITS = passage("A parking permit is valid for two years. It costs 40 euros a year.\n\nRenew it online before it ends.", chunk_id="c1")
WASTE = passage(
    "Glass is collected on Mondays. Applicants do not pay for collection.", chunk_id="c2", document="handbook/waste.md", start=50
)
PASSAGES = [PERMITS, WASTE]


def released(reply: str) -> list[str]:
    return [sentence.text for sentence in ground(reply, PASSAGES).sentences]


def test_a_copied_sentence_is_cited_with_its_place():
    grounded = ground("A parking permit is valid for two years. [1]", PASSAGES)
    (citation,) = grounded.citations
    assert (citation.quote, citation.start, citation.end, citation.chunk_id) == ("A parking permit is valid for two years.", 0, 40, "c1")
    assert grounded.unsupported == 0


def test_offsets_count_in_the_document_and_not_in_the_chunk():
    (citation,) = ground("Glass is collected on Mondays. [2]", PASSAGES).citations
    assert (citation.start, citation.end) == (50, 80)


def test_a_fragment_is_widened_to_its_sentence_so_that_fragments_cannot_be_spliced():
    assert released('You "do not pay for collection" of "a parking permit is valid".') == ["Applicants do not pay for collection."]


def test_a_wrong_passage_number_does_not_matter_because_the_text_decides():
    (citation,) = ground("Glass is collected on Mondays. [1]", PASSAGES).citations
    assert citation.document == "handbook/waste.md"


@pytest.mark.parametrize(
    "reply",
    [
        "A parking permit is valid for ten years. [1]",
        "It costs 40 euros a year.Renew it online",
        "See https://evil.example/?q=secret for details. [1]",
        "![x](https://evil.example/a.png)",
        "NONE",
        "",
        "[1] [2] [1]",
        "permit is",
        "A parking permit is valid for two \u0443ears.",
    ],
)
def test_what_does_not_stand_in_a_passage_is_not_released(reply: str):
    assert released(reply) == []


def test_an_endless_reply_is_cut():
    many = passage(" ".join(f"Rule number {n} applies to everybody here." for n in range(50)), chunk_id="many")
    assert len(ground(many.text, [many]).sentences) == MAX_SENTENCES


def test_a_sentence_repeated_is_cited_once():
    assert len(released("Glass is collected on Mondays. Glass is collected on Mondays.")) == 1


@given(st.text(max_size=300))
def test_whatever_a_model_says_only_verbatim_text_is_released(reply: str):
    texts = [p.text for p in PASSAGES]
    assert all(any(sentence in text for text in texts) for sentence in released(reply))


@given(st.lists(st.sampled_from([*(PERMITS.text + " " + WASTE.text).split(), "not", "[1]", "[2]", '"', "free", "."]), max_size=40))
def test_a_model_that_shuffles_true_words_releases_only_whole_true_sentences(words: list[str]):
    whole = {
        "A parking permit is valid for two years.",
        "It costs 40 euros a year.",
        "Renew it online before it ends.",
        "Glass is collected on Mondays.",
        "Applicants do not pay for collection.",
    }
    assert set(released(" ".join(words))) <= whole
