"""Store what a user said of an answer: append-only, idempotent, on disk when the caller's transaction ends.

Called inside a write transaction by the gateway, the console and the command line. An answer that does not exist and
one that belongs to somebody else are the same error: nobody learns which ids exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select
from sqlalchemy.exc import IntegrityError

from affinage.database.tables.answers import answer
from affinage.database.tables.feedback import feedback
from affinage.declarations.repository import get_assistant
from affinage.errors import ConflictError, UnknownObjectError, UsageError
from affinage.feedback.submission import Submission, check_reasons, digest_of_body

MAX_KEY_CHARS = 255
# What the drafts of the Idempotency-Key header and its users agree on.


@dataclass(frozen=True)
class Accepted:
    """A stored submission. `body` is what the caller gets back, the same each time the same key is sent.

    `assistant`, `arm` and `value` are labels for the feedback counter.
    """

    feedback_id: str
    created: bool
    body: Mapping[str, Any]
    assistant: str
    arm: str
    value: str


def submit(
    connection: Connection,
    submission: Submission,
    *,
    by: str,
    now: datetime,
    new_id: Callable[[], str],
    idempotency_key: str | None = None,
) -> Accepted:
    """Store `submission` by the user `by`.

    Parameters
    ----------
    connection
        Inside a write transaction; the submission is durable when that ends.
    idempotency_key
        Scoped to the user. The same key with the same submission again stores nothing and returns the same body.

    Raises
    ------
    UnknownObjectError
        If the answer, or one that it is compared with, does not exist or is not this user's.
    ConflictError
        If the key was used with another submission (field `status` is 422).
    UsageError
        If a reason is not offered, a compared answer is no sibling, or a span lies outside the answer.
    """
    _check_key(idempotency_key)
    about = _own_answer(connection, submission.answer_id, by=by)
    digest = submission.body_digest()
    stored = _by_key(connection, by=by, key=idempotency_key)
    if stored is None:
        _check_against_answer(connection, submission, about, by=by)
        values = _values(submission, by=by, now=now, feedback_id=new_id(), key=idempotency_key, digest=digest)
        try:
            with connection.begin_nested():
                connection.execute(insert(feedback).values(**values))
            return _accepted(values, about, created=True)
        except IntegrityError:
            # Another process stored the same key since we looked; on SQLite the write lock excludes it.
            stored = _by_key(connection, by=by, key=idempotency_key)
            if stored is None:
                raise
    if stored["body_digest"] != digest:
        raise ConflictError(
            "This idempotency key was used with another submission.", hint="Use a new key for a new submission.", status=422
        )
    return _accepted(stored, about, created=False)


def record_regeneration(
    connection: Connection, answer_id: str, new_answer_id: str, *, by: str, now: datetime, new_id: Callable[[], str]
) -> str | None:
    """Note that `by` asked again instead of using `answer_id`: a weak negative. Returns the feedback id.

    None, and nothing stored, when the answer is unknown or somebody else's: a forged `regenerates` must neither store
    anything nor tell whether the id exists. The same new answer is noted once.
    """
    found = connection.execute(select(answer.c.answer_id).where(answer.c.answer_id == answer_id, answer.c.user_name == by)).first()
    if found is None or answer_id == new_answer_id:
        return None
    digest = digest_of_body({"answer_id": answer_id, "regenerated_by": new_answer_id})
    again = connection.execute(
        select(feedback.c.feedback_id).where(feedback.c.answer_id == answer_id, feedback.c.body_digest == digest)
    ).scalar()
    if again is not None:
        return str(again)
    feedback_id = new_id()
    connection.execute(
        insert(feedback).values(
            feedback_id=feedback_id,
            answer_id=answer_id,
            user_name=by,
            reasons=[],
            origin="regeneration",
            body_digest=digest,
            created_at=now,
        )
    )
    return feedback_id


def public_row(row: RowMapping | Mapping[str, Any]) -> dict[str, Any]:
    """The keys that lists, exports and receipts show of a stored submission."""
    return {
        "feedback_id": row["feedback_id"],
        "answer_id": row["answer_id"],
        "user": row["user_name"],
        "rating": row["rating"],
        "reasons": list(row["reasons"]),
        "comment": row["comment"],
        "correction": row["correction"],
        "preferred_over": row["preferred_over"],
        "ranking": row["ranking"],
        "spans": row["spans"],
        "origin": row["origin"],
        "at": row["created_at"].isoformat(),
    }


def _check_key(key: str | None) -> None:
    if key is not None and not (0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        raise UsageError(
            f"An idempotency key has 1 to {MAX_KEY_CHARS} printable ASCII characters.", hint="A random UUID is a good key.", status=422
        )


def _own_answer(connection: Connection, answer_id: str, *, by: str) -> RowMapping:
    query = select(answer.c.answer_id, answer.c.assistant, answer.c.question, answer.c.text, answer.c.arm)
    row = connection.execute(query.where(answer.c.answer_id == answer_id, answer.c.user_name == by)).mappings().first()
    if row is None:
        raise UnknownObjectError("answer", answer_id, hint="Feedback is about an answer that you received yourself.")
    return row


def _by_key(connection: Connection, *, by: str, key: str | None) -> RowMapping | None:
    if key is None:
        return None
    query = select(feedback).where(feedback.c.user_name == by, feedback.c.idempotency_key == key)
    return connection.execute(query).mappings().first()


def _check_against_answer(connection: Connection, submission: Submission, about: RowMapping, *, by: str) -> None:
    if submission.reasons:
        check_reasons(submission.reasons, known=get_assistant(connection, about["assistant"]).feedback.reasons)
    others = [submission.preferred_over] if submission.preferred_over is not None else []
    if submission.ranking is not None:
        if submission.answer_id not in submission.ranking:
            raise UsageError("The ranking leaves out the answer it is about.", hint="Add `answer_id` to `ranking`.", status=422)
        others += [other for other in submission.ranking if other != submission.answer_id]
    for other in others:
        sibling = _own_answer(connection, other, by=by)
        same = (sibling["assistant"], sibling["question"]) == (about["assistant"], about["question"])
        if other == submission.answer_id or not same:
            raise UsageError(
                f"Answers `{submission.answer_id}` and `{other}` cannot be compared.",
                hint="Compare two answers of one assistant to one question.",
                status=422,
            )
    for span in submission.spans or ():
        if span.end > len(about["text"]):
            raise UsageError(f"The span {span.start}-{span.end} lies outside the answer.", hint="Offsets count characters.", status=422)


def _values(submission: Submission, *, by: str, now: datetime, feedback_id: str, key: str | None, digest: str) -> dict[str, Any]:
    body = submission.model_dump(mode="json")
    return {
        **body,
        "feedback_id": feedback_id,
        "user_name": by,
        "origin": "user",
        "idempotency_key": key,
        "body_digest": digest,
        "created_at": now,
    }


def _accepted(row: RowMapping | Mapping[str, Any], about: RowMapping, *, created: bool) -> Accepted:
    said = (key for key in ("rating", "correction", "preferred_over", "ranking", "spans", "comment") if row[key] is not None)
    first = next(said, "comment")
    return Accepted(
        feedback_id=row["feedback_id"],
        created=created,
        body=public_row(row),
        assistant=about["assistant"],
        arm=about["arm"],
        value=row["rating"] or first,
    )
