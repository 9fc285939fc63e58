"""An answer that is to be JSON ends with its object."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.engines.objects import MAX_PREAMBLE_TOKENS, object_is_over

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(st.dictionaries(st.text(), JSON))
def test_an_object_is_over_at_its_last_character_and_not_before(value: dict[str, object]) -> None:
    text = json.dumps(value, ensure_ascii=False)
    ends = [end for end in range(1, len(text) + 1) if object_is_over(text[:end], end)]
    assert ends == [len(text)]


@pytest.mark.parametrize("text", ["", "Voici l'objet :", "```json\n"])
def test_a_preamble_is_waited_for_but_not_for_ever(text: str) -> None:
    assert not object_is_over(text, MAX_PREAMBLE_TOKENS - 1)
    assert object_is_over(text, MAX_PREAMBLE_TOKENS)


def test_words_before_an_object_and_braces_in_its_text_do_not_end_it() -> None:
    assert not object_is_over('Voici : {"a": "}', 30)
    assert not object_is_over('Voici : {"a": {"b": 1}', 30)
    assert object_is_over('Voici : {"a": {"b": 1}} ', 30)
