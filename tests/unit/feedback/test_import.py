from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from affinage.database.engine import Database
from affinage.feedback.export import export_lines
from affinage.feedback.import_ import import_feedback
from affinage.feedback.listing import list_feedback
from affinage.feedback.submission import parse_submission
from affinage.feedback.submit import record_regeneration, submit
from tests.conftest import Clock


def rows_of(database: Database) -> list[dict[str, Any]]:
    with database.read() as connection:
        return list_feedback(connection)


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def open_webui(**changes: Any) -> dict[str, Any]:
    """One row of Open WebUI's feedback export, shortened to the keys that matter."""
    messages = {
        "m1": {"id": "m1", "parentId": None, "role": "user", "content": "Where is the office?"},
        "m2": {"id": "m2", "parentId": "m1", "role": "assistant", "content": "Ten days.", "model": "guichet"},
    }
    row: dict[str, Any] = {
        "id": "5f4d",
        "user_id": "0c1e",
        "version": 0,
        "type": "rating",
        "data": {"rating": -1, "model_id": "guichet", "sibling_model_ids": None, "reason": "not_helpful", "comment": "No.", "tags": []},
        "meta": {"model_id": "guichet", "message_id": "m2", "message_index": 1, "chat_id": "c1"},
        "snapshot": {"chat": {"id": "c1", "chat": {"models": ["guichet"], "history": {"messages": messages, "currentId": "m2"}}}},
        "created_at": 1772442000,
        "updated_at": 1772442000,
    }
    return {**row, **changes}


def test_our_own_export_comes_back_unchanged(answered: Database, clock: Clock, new_id: Callable[[], str]) -> None:
    with answered.write() as connection:
        for said in ({"rating": "up", "comment": "oui\u2028"}, {"rating": "down", "reasons": ["tone"]}, {"correction": "Vingt jours."}):
            clock.advance(seconds=1)
            submit(connection, parse_submission({"answer_id": "a1", **said}), by="alice", now=clock(), new_id=new_id)
        record_regeneration(connection, "a1", "a2", by="alice", now=clock(), new_id=new_id)
        text = "".join(export_lines(connection))
    before = rows_of(answered)
    assert import_feedback(answered, text, now=clock).as_dict() == {"imported": 0, "duplicates": 4, "rejected": {}}
    with answered.write() as connection:
        connection.exec_driver_sql("DELETE FROM feedback")
    assert import_feedback(answered, text, now=clock).imported == 4
    assert rows_of(answered) == before


def test_an_export_with_another_content_under_the_same_id_is_rejected(answered: Database, clock: Clock) -> None:
    row = {"feedback_id": "f1", "answer_id": "a1", "user": "alice", "rating": "up", "reasons": [], "at": "2026-03-02T09:00:00+00:00"}
    assert import_feedback(answered, lines(row), now=clock).imported == 1
    report = import_feedback(answered, lines({**row, "rating": "down"}), now=clock)
    assert report.as_dict()["rejected"] == {"conflict": 1}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"id": "t1", "target_id": "a1", "metric_name": "helpful", "value": True, "tags": {}, "timestamp": "2026-03-01T00:00:00Z"},
            {"rating": "up"},
        ),
        ({"metric_name": "helpful", "inference_id": "a1", "value": False}, {"rating": "down"}),
        ({"id": "t2", "target_id": "a1", "target_type": "inference", "value": "Nice."}, {"comment": "Nice."}),
        ({"id": "t3", "inference_id": "a1", "value": '[{"type":"text","text":"Twelve."}]'}, {"correction": "Twelve."}),
        ({"id": "t4", "inference_id": "a1", "value": '{"product": "box"}'}, {"correction": '{"product": "box"}'}),
        ({"metric_name": "demonstration", "inference_id": "a1", "value": "Twelve."}, {"correction": "Twelve."}),
    ],
)
def test_tensorzero_rows_are_understood(answered: Database, clock: Clock, row: dict[str, Any], said: dict[str, str]) -> None:
    assert import_feedback(answered, lines(row), now=clock).as_dict() == {"imported": 1, "duplicates": 0, "rejected": {}}
    (stored,) = rows_of(answered)
    assert {key: stored[key] for key in said} == said
    assert (stored["origin"], stored["user"]) == ("import", "alice")
    assert import_feedback(answered, lines(row), now=clock).duplicates == 1


def test_open_webui_rows_find_their_answer_by_what_was_asked_and_said(answered: Database, clock: Clock) -> None:
    report = import_feedback(answered, json.dumps([open_webui()]), now=clock)
    assert report.imported == 1
    (stored,) = rows_of(answered)
    assert (stored["answer_id"], stored["rating"], stored["comment"]) == ("a3", "down", "No.\n[reason] not_helpful")
    assert stored["at"] == "2026-03-02T09:00:00+00:00"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"feedback_id": "f1", "answer_id": "nn", "user": "alice", "rating": "up"}, "unknown_answer"),
        ({"feedback_id": "f1", "answer_id": "b1", "user": "alice", "rating": "up"}, "foreign_answer"),
        ({"feedback_id": "f1", "answer_id": "a1", "user": "alice", "comment": "a\x00"}, "invalid"),
        ({"feedback_id": "f1", "answer_id": "a1", "user": "alice", "rating": "up", "at": "yesterday"}, "wrong_value"),
        ({"target_id": "a1", "metric_name": "score", "value": 0.7}, "no_judgement"),
        ({"episode_id": "e", "metric_name": "helpful", "value": True}, "episode"),
        ({"id": "t", "target_id": "e", "target_type": "episode", "value": "x"}, "episode"),
        (open_webui(data={"rating": 0, "model_id": "guichet"}), "no_judgement"),
        (open_webui(snapshot=None), "unknown_answer"),
        ({"hello": "world"}, "unknown_shape"),
        ([1, 2], "not_json"),
    ],
)
def test_what_does_not_fit_is_reported_whole(answered: Database, clock: Clock, row: object, reason: str) -> None:
    report = import_feedback(answered, lines({"feedback_id": "f0", "answer_id": "a1", "user": "alice", "rating": "up"}, row), now=clock)
    assert (report.imported, report.as_dict()["rejected"]) == (1, {reason: 1})
    assert report.rejects[0].row == row
    assert report.rejects[0].line == 2


def test_a_broken_line_does_not_stop_the_others(answered: Database, clock: Clock) -> None:
    good = {"feedback_id": "f0", "answer_id": "a1", "user": "alice", "rating": "up"}
    text = '{"feedback_id": \n' + lines(good) + "[" * 100_000 + "\n"
    report = import_feedback(answered, text, now=clock)
    assert (report.imported, report.as_dict()["rejected"]) == (1, {"not_json": 2})


def test_two_answers_that_look_alike_are_not_guessed_between(answered: Database, clock: Clock) -> None:
    row = open_webui()
    row["snapshot"]["chat"]["chat"]["history"]["messages"]["m1"]["content"] = "How long is the delay?"
    assert import_feedback(answered, json.dumps([row]), now=clock).as_dict()["rejected"] == {"ambiguous_answer": 1}
