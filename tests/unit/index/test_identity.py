from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from affinage.index.identity import chunk_id, chunk_ids, embed_hash, row_id


def test_names_never_change_between_releases() -> None:
    # Recorded once: other values would orphan every feedback and every stored row.
    text_hash = embed_hash("Titre\nLe texte.")
    assert text_hash == "f718fa791929b10d4f425e6e3adc0230"
    assert chunk_id("doc", text_hash, 0) == "4c358494ffa28d01ce10e1db1755b08d"
    assert row_id(chunk_id("doc", text_hash, 0), 7) == "7b80e7a32660768011d38f896acf77bc"


@given(st.lists(st.sampled_from("abc")), st.sampled_from("abc"), st.data())
def test_insertion_keeps_the_names_of_all_chunks_but_its_own_text(texts: list[str], fresh: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(texts)))
    before, after = chunk_ids("d", texts), chunk_ids("d", [*texts[:at], fresh, *texts[at:]])
    assert len(set(after)) == len(after)
    assert set(before) < set(after)
    assert len(set(after) - set(before)) == 1


def test_equal_texts_of_two_documents_have_two_names() -> None:
    assert chunk_ids("d1", ["t"]) != chunk_ids("d2", ["t"])


@given(st.text(), st.text(), st.text(), st.text())
def test_parts_of_a_name_do_not_run_into_each_other(a: str, b: str, c: str, d: str) -> None:
    if (a, b) != (c, d):
        assert chunk_id(a, b, 0) != chunk_id(c, d, 0)


def test_row_of_a_later_holder_has_another_name() -> None:
    assert row_id("c", 1) != row_id("c", 2)
