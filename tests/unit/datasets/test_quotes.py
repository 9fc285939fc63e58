from __future__ import annotations

from affinage.datasets.quotes import quoted_chunks

CHUNKS = [
    ("c1", "The office opens at nine. The delay for an appeal is\n two months after notice. Bring a form."),
    ("c2", "The delay for an appeal is three months after notice."),
    ("c3", "Unrelated text about water and schools in the town."),
]


def test_a_sentence_is_found_to_the_character() -> None:
    found = quoted_chunks({"f": "The delay for an appeal is two months after notice."}, CHUNKS)
    assert found == {"f": ["c1"]}


def test_one_altered_word_is_not_found() -> None:
    assert quoted_chunks({"f": "The delay for an appeal is four months after notice."}, CHUNKS) == {}


def test_quotation_marks_and_white_space_around_do_not_matter() -> None:
    assert quoted_chunks({"f": " « The delay for an appeal is  three months after notice. »\n"}, CHUNKS) == {"f": ["c2"]}


def test_one_true_sentence_among_own_words_is_enough() -> None:
    text = "You are wrong. The delay for an appeal is two months after notice. Please check."
    assert quoted_chunks({"f": text}, CHUNKS) == {"f": ["c1"]}


def test_the_chunk_with_most_of_the_quotation_comes_first() -> None:
    chunks = [("a", "The office opens at nine o'clock."), ("b", "The office opens at nine o'clock. Bring the form with you.")]
    text = "The office opens at nine o'clock. Bring the form with you."
    assert quoted_chunks({"f": text}, chunks)["f"] == ["b", "a"]


def test_three_words_and_nothing_quote_nothing() -> None:
    assert quoted_chunks({"f": "opens at nine", "g": ""}, CHUNKS) == {}
