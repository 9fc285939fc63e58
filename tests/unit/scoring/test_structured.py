"""JSON validity, exact match and field F1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.scoring.exact_match import exact_match
from affinage.scoring.field_f1 import field_f1
from affinage.scoring.json_validity import INVALID, is_valid, parse_valid, schema_errors

SCHEMA = {
    "type": "object",
    "properties": {"product": {"type": "string"}, "reason": {"enum": ["panne", "perte"]}, "reference": {"type": ["string", "null"]}},
    "required": ["product", "reason", "reference"],
    "additionalProperties": False,
}
GOOD = '{"product": "Box", "reason": "panne", "reference": null}'

values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("abé ", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


def test_an_object_that_satisfies_the_schema_is_valid() -> None:
    assert parse_valid(f" {GOOD}\n", SCHEMA) == {"product": "Box", "reason": "panne", "reference": None}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        f"```json\n{GOOD}\n```",
        f"Voici : {GOOD}",
        GOOD[:-1],
        GOOD.replace("panne", "vol"),
        GOOD.replace('"reference": null', '"reference": 3'),
        GOOD.replace(', "reference": null', ""),
        GOOD.replace("}", ', "other": 1}'),
        GOOD.replace('"reason"', '"product": "Clé", "reason"'),
        GOOD.replace("null", "NaN"),
        "[" * 100_000,
    ],
)
def test_anything_else_is_not(text: str) -> None:
    assert parse_valid(text, SCHEMA) is INVALID
    assert is_valid(text, SCHEMA) == 0.0


def test_without_a_schema_any_object_is_valid_and_nothing_else() -> None:
    assert is_valid("{}", None) == 1.0
    assert is_valid("[]", None) == 0.0


def test_what_breaks_the_schema_is_named_with_its_place() -> None:
    (error,) = schema_errors({"product": 1, "reason": "panne", "reference": None}, SCHEMA)
    assert error.startswith("product: ")


def test_a_schema_that_is_none_is_a_mistake_of_the_programmer() -> None:
    with pytest.raises(ValueError, match="not a JSON Schema"):
        is_valid("{}", {"type": "thing"})


def test_exact_match_ignores_key_order_unicode_form_and_outer_space() -> None:
    assert exact_match({"a": "Cafe\u0301 ", "b": 1}, {"b": 1.0, "a": "Caf\u00e9"}) == 1.0


@pytest.mark.parametrize(
    ("answer", "target"), [({"a": True}, {"a": 1}), ({"a": None}, {}), ([1, 2], [2, 1]), ({"a": "X"}, {"a": "x"}), ({"a": "1"}, {"a": 1})]
)
def test_exact_match_tells_these_apart(answer, target) -> None:
    assert exact_match(answer, target) == 0.0


def test_field_f1_counts_pairs_of_path_and_value() -> None:
    # 1 of 2 fields said is right, 1 of 3 fields wanted is found: precision 1/2, recall 1/3, F1 = 2·1/(2+3) = 0.4.
    assert field_f1({"a": "x", "b": "wrong"}, {"a": "x", "b": "y", "c": "z"}) == pytest.approx(0.4)


def test_field_f1_takes_null_for_absent_and_lists_without_order() -> None:
    assert field_f1({"a": [1, 2], "b": None}, {"a": [2, 1]}) == 1.0


def test_field_f1_charges_an_invented_value() -> None:
    # One right of two said, one wanted: 2·1/(2+1).
    assert field_f1({"a": "x", "reference": "AB-1"}, {"a": "x", "reference": None}) == pytest.approx(2 / 3)


def test_field_f1_of_two_empty_objects_is_one_and_of_unreadable_json_zero() -> None:
    assert field_f1({}, {"a": None}) == 1.0
    assert field_f1(None, {"a": "x"}) == 0.0
    assert field_f1(INVALID, {}) == 0.0


def test_field_f1_counts_repeated_list_elements() -> None:
    # Two of three elements said are wanted once each: right 2, said 3, wanted 2.
    assert field_f1({"a": [1, 1, 2]}, {"a": [1, 2]}) == pytest.approx(4 / 5)


@given(one=objects, other=objects)
def test_metrics_are_symmetric_bounded_and_one_for_equal_objects(one, other) -> None:
    assert 0 <= field_f1(one, other) <= 1
    assert field_f1(one, other) == field_f1(other, one)
    assert field_f1(one, one) == exact_match(one, one) == 1.0
    if exact_match(one, other):
        assert field_f1(one, other) == 1.0
