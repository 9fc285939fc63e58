from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.answers.structured import canonical, evidence, parse_reply, problems
from affinage.errors import ConfigurationError

SCHEMA = {
    "type": "object",
    "properties": {
        "product": {"type": "string"},
        "reason": {"enum": ["refund", "delay"]},
        "reference": {"type": ["string", "null"]},
    },
    "required": ["product", "reason", "reference"],
    "additionalProperties": False,
}
GOOD = {"product": "Lampe Solis", "reason": "delay", "reference": None}


@pytest.mark.parametrize(
    "reply",
    [
        '{"product": "Lampe Solis", "reason": "delay", "reference": null}',
        'Sure:\n```json\n{"product": "Lampe Solis", "reason": "delay", "reference": null}\n```',
        'broken { then {"product": "Lampe Solis", "reason": "delay", "reference": null} and more',
    ],
)
def test_the_first_object_of_a_reply_is_read_whatever_stands_around_it(reply: str):
    assert parse_reply(reply) == GOOD


@pytest.mark.parametrize("reply", ["", "no object", "{", "[1, 2]", '{"a": NaN}', "{" * 5000, '{"a":' * 3000])
def test_a_reply_without_an_object_is_none(reply: str):
    assert parse_reply(reply) is None


def test_a_valid_object_has_no_problems_and_a_wrong_one_names_its_keys():
    assert problems(GOOD, SCHEMA) == []
    assert problems({**GOOD, "reason": "other"}, SCHEMA)[0].startswith("reason:")
    assert problems({"product": "x"}, SCHEMA)
    assert problems({**GOOD, "extra": 1}, SCHEMA)


def test_a_schema_that_is_none_is_refused_with_its_name():
    with pytest.raises(ConfigurationError, match="answer schema"):
        problems({}, {"type": "nonsense"})


def test_a_remote_reference_in_a_schema_is_never_fetched():
    with pytest.raises(Exception, match=r"evil\.example"):
        problems({}, {"$ref": "https://evil.example/schema.json"})


def test_canonical_json_follows_the_order_of_the_schema_and_keeps_accents():
    shuffled = {"reference": "é1", "reason": "delay", "product": "x"}
    assert canonical(shuffled, SCHEMA) == '{"product": "x", "reason": "delay", "reference": "é1"}'


def test_evidence_is_what_stands_in_the_text_and_closed_lists_need_none():
    text = "Ma Lampe Solis est en delay"
    (citation,) = evidence({**GOOD, "reference": "R-12"}, SCHEMA, text)
    assert (citation.quote, citation.document, text[citation.start : citation.end]) == ("Lampe Solis", "question", "Lampe Solis")


@given(st.text(max_size=200))
def test_any_reply_is_read_without_an_error(reply: str):
    parse_reply(reply)
