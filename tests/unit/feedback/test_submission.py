from __future__ import annotations

import pytest

from affinage.errors import UsageError
from affinage.feedback.submission import MAX_COMMENT_CHARS, parse_submission


def test_a_rating_alone_is_a_submission() -> None:
    assert parse_submission({"answer_id": "a1", "rating": "up"}).rating == "up"


@pytest.mark.parametrize(
    "raw",
    [
        {"answer_id": "a1"},
        {"answer_id": "a1", "reasons": ["incorrect"]},
        {"answer_id": "a1", "rating": "sideways"},
        {"answer_id": "", "rating": "up"},
        {"rating": "up"},
        {"answer_id": "a1", "rating": "up", "stars": 5},
        {"answer_id": "a1", "comment": "a\x00b"},
        {"answer_id": "a1", "comment": "a\ud800b"},
        {"answer_id": "a\ud800", "rating": "up"},
        {"answer_id": "a1", "comment": "x" * (MAX_COMMENT_CHARS + 1)},
        {"answer_id": "a1", "correction": "  "},
        {"answer_id": "a1", "ranking": ["a1"]},
        {"answer_id": "a1", "ranking": ["a1", "a1"]},
        {"answer_id": "a1", "spans": [{"start": 4, "end": 4, "label": "wrong"}]},
        {"answer_id": "a1", "spans": []},
        {"answer_id": 1, "rating": "up"},
        ["a1", "up"],
        "a1",
        None,
    ],
)
def test_what_says_nothing_or_cannot_be_stored_is_refused(raw: object) -> None:
    with pytest.raises(UsageError) as refused:
        parse_submission(raw)
    assert refused.value.fields["status"] == 422


def test_the_refusal_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(UsageError) as refused:
        parse_submission({"answer_id": "a1", "rating": "my secret"})
    assert "my secret" not in str(refused.value)


def test_equal_submissions_have_equal_digests_whatever_the_order_of_keys() -> None:
    one = parse_submission({"answer_id": "a1", "rating": "up", "comment": "ok"})
    two = parse_submission({"comment": "ok", "rating": "up", "answer_id": "a1"})
    assert one.body_digest() == two.body_digest()
    assert one.body_digest() != parse_submission({"answer_id": "a1", "rating": "down", "comment": "ok"}).body_digest()
