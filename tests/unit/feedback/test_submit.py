from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from affinage.database.engine import Database
from affinage.database.tables.feedback import feedback
from affinage.errors import AffinageError, ConflictError, UnknownObjectError, UsageError
from affinage.feedback.listing import list_feedback
from affinage.feedback.submission import parse_submission
from affinage.feedback.submit import Accepted, record_regeneration, submit
from tests.conftest import Clock


@pytest.fixture
def say(answered: Database, clock: Clock, new_id: Callable[[], str]) -> Callable[..., Accepted]:
    def submit_(said: dict[str, Any], *, by: str = "alice", key: str | None = None) -> Accepted:
        with answered.write() as connection:
            return submit(connection, parse_submission(said), by=by, now=clock(), new_id=new_id, idempotency_key=key)

    return submit_


def stored(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(feedback)).scalar_one())


def test_a_submission_is_stored_and_listed_with_its_keys(say: Callable[..., Accepted], answered: Database) -> None:
    accepted = say({"answer_id": "a1", "rating": "down", "reasons": ["incorrect"], "correction": "Twelve days."})
    with answered.read() as connection:
        (row,) = list_feedback(connection)
    assert accepted.created
    assert row == accepted.body
    assert row["user"] == "alice"
    assert row["at"] == "2026-03-02T09:00:00+00:00"
    assert (accepted.assistant, accepted.arm, accepted.value) == ("guichet", "control", "down")


def test_an_unknown_answer_and_somebody_elses_are_the_same_error(say: Callable[..., Accepted], answered: Database) -> None:
    messages = []
    for answer_id in ("b1", "nn"):
        with pytest.raises(UnknownObjectError) as refused:
            say({"answer_id": answer_id, "rating": "up"})
        messages.append(str(refused.value).replace(answer_id, "X"))
    assert messages[0] == messages[1]
    assert stored(answered) == 0


def test_the_same_key_again_gives_the_same_body_and_stores_nothing(say: Callable[..., Accepted], answered: Database, clock: Clock) -> None:
    first = say({"answer_id": "a1", "rating": "up"}, key="k")
    clock.advance(minutes=5)
    again = say({"answer_id": "a1", "rating": "up"}, key="k")
    assert (first.created, again.created) == (True, False)
    assert first.body == again.body
    assert stored(answered) == 1


def test_the_same_key_with_another_body_conflicts(say: Callable[..., Accepted], answered: Database) -> None:
    say({"answer_id": "a1", "rating": "up"}, key="k")
    for other in ({"answer_id": "a1", "rating": "down"}, {"answer_id": "a2", "rating": "up"}):
        with pytest.raises(ConflictError) as refused:
            say(other, key="k")
        assert refused.value.fields["status"] == 422
    assert stored(answered) == 1


def test_a_key_belongs_to_its_user(say: Callable[..., Accepted], answered: Database) -> None:
    assert say({"answer_id": "a1", "rating": "up"}, key="k").created
    assert say({"answer_id": "b1", "rating": "down"}, by="bob", key="k").created
    assert stored(answered) == 2


def test_the_same_key_about_a_foreign_answer_does_not_tell_that_it_exists(say: Callable[..., Accepted]) -> None:
    say({"answer_id": "a1", "rating": "up"}, key="k")
    with pytest.raises(UnknownObjectError):
        say({"answer_id": "b1", "rating": "up"}, key="k")


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\nb"])
def test_a_key_that_cannot_be_a_header_is_refused(say: Callable[..., Accepted], key: str) -> None:
    with pytest.raises(UsageError):
        say({"answer_id": "a1", "rating": "up"}, key=key)


def test_without_a_key_each_submission_is_kept(say: Callable[..., Accepted], answered: Database) -> None:
    say({"answer_id": "a1", "rating": "up"})
    say({"answer_id": "a1", "rating": "up"})
    assert stored(answered) == 2


def test_a_reason_must_be_one_of_the_assistants(say: Callable[..., Accepted]) -> None:
    with pytest.raises(UsageError, match="`rude` is not one"):
        say({"answer_id": "a1", "rating": "down", "reasons": ["rude"]})


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"preferred_over": "b1"}, UnknownObjectError),  # the same question, another user
        ({"preferred_over": "nn"}, UnknownObjectError),
        ({"preferred_over": "a3"}, UsageError),  # another question
        ({"preferred_over": "a4"}, UsageError),  # another assistant
        ({"preferred_over": "a1"}, UsageError),  # itself
        ({"ranking": ["a2", "a3"]}, UsageError),  # leaves itself out
        ({"ranking": ["a1", "a3"]}, UsageError),
        ({"ranking": ["a1", "b1"]}, UnknownObjectError),
        ({"spans": [{"start": 0, "end": 10_000, "label": "wrong"}]}, UsageError),
    ],
)
def test_only_siblings_can_be_compared(
    say: Callable[..., Accepted], answered: Database, said: dict[str, Any], error: type[AffinageError]
) -> None:
    with pytest.raises(error):
        say({"answer_id": "a1", **said})
    assert stored(answered) == 0


def test_siblings_can_be_compared(say: Callable[..., Accepted]) -> None:
    assert say({"answer_id": "a2", "preferred_over": "a1"}).body["preferred_over"] == "a1"
    assert say({"answer_id": "a2", "ranking": ["a2", "a1"]}).body["ranking"] == ["a2", "a1"]


def test_a_regeneration_is_noted_once(answered: Database, clock: Clock, new_id: Callable[[], str]) -> None:
    with answered.write() as connection:
        ids = [record_regeneration(connection, "a1", "a2", by="alice", now=clock(), new_id=new_id) for _ in range(2)]
        rows = list_feedback(connection)
    assert ids[0] == ids[1] is not None
    assert [(row["answer_id"], row["origin"], row["rating"]) for row in rows] == [("a1", "regeneration", None)]


@pytest.mark.parametrize("answer_id", ["b1", "nn", "a2"])
def test_a_forged_regeneration_stores_nothing(answered: Database, clock: Clock, new_id: Callable[[], str], answer_id: str) -> None:
    with answered.write() as connection:
        assert record_regeneration(connection, answer_id, "a2", by="alice", now=clock(), new_id=new_id) is None
    assert stored(answered) == 0
