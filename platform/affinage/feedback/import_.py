"""Take over feedback from a file: our own export, TensorZero's, Open WebUI's.

Called by the command line. Each row becomes a submission about a recorded answer, or an entry of the rejects report
with its reason and the whole row: nothing is lost, and importing a file again stores nothing twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select

from affinage.database.engine import Database
from affinage.database.tables.answers import answer
from affinage.database.tables.feedback import feedback
from affinage.errors import UsageError
from affinage.feedback.formats import Read, UnreadableRowError, read_row, rows_of
from affinage.feedback.submission import Submission, digest_of_body, parse_submission

BATCH = 100
# Rows in one transaction: well below 50 ms of write lock.


@dataclass(frozen=True)
class Reject:
    """A row that was not taken over: where it stood, why, and the row itself."""

    line: int
    reason: str
    row: object


@dataclass
class ImportReport:
    """What became of the rows of a file: imported + duplicates + rejects = rows."""

    imported: int = 0
    duplicates: int = 0
    rejects: list[Reject] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The keys of `feedback import --json`."""
        return {
            "imported": self.imported,
            "duplicates": self.duplicates,
            "rejected": dict(sorted(Counter(reject.reason for reject in self.rejects).items())),
        }


def import_feedback(database: Database, text: str, *, now: Callable[[], datetime]) -> ImportReport:
    """Store the submissions of `text` under their own ids and times.

    Parameters
    ----------
    text
        JSON lines or one JSON array.
    now
        For rows that carry no time.
    """
    report = ImportReport()
    rows = rows_of(text)
    while batch := list(islice(rows, BATCH)):
        with database.write() as connection:
            for line, row in batch:
                try:
                    if _store(connection, read_row(row), now=now):
                        report.imported += 1
                    else:
                        report.duplicates += 1
                except UnreadableRowError as error:
                    report.rejects.append(Reject(line, error.reason, row))
    return report


def _store(connection: Connection, read: Read, *, now: Callable[[], datetime]) -> bool:
    about = _answer_of(connection, read)
    said = _said(read, answer_id=about["answer_id"])
    digest = digest_of_body(said if read.origin != "regeneration" else {**said, "feedback_id": read.feedback_id})
    stored = connection.execute(
        select(feedback.c.answer_id, feedback.c.user_name, feedback.c.origin, feedback.c.body_digest).where(
            feedback.c.feedback_id == read.feedback_id
        )
    ).first()
    if stored is not None:
        same = stored.body_digest == digest or stored.origin == "regeneration" == read.origin
        if same and (stored.answer_id, stored.user_name) == (about["answer_id"], about["user_name"]):
            return False
        raise UnreadableRowError("conflict")
    connection.execute(
        insert(feedback).values(
            **{**said, "answer_id": about["answer_id"]},
            feedback_id=read.feedback_id,
            user_name=about["user_name"],
            origin=read.origin,
            body_digest=digest,
            created_at=read.at or now(),
        )
    )
    return True


def _said(read: Read, *, answer_id: str) -> dict[str, Any]:
    if read.origin == "regeneration":
        return {"answer_id": answer_id, "reasons": []}
    try:
        submission: Submission = parse_submission({**read.said, "answer_id": answer_id})
    except UsageError as error:
        raise UnreadableRowError("invalid") from error
    return submission.model_dump(mode="json")


def _answer_of(connection: Connection, read: Read) -> RowMapping:
    """The recorded answer that the row is about; a row about somebody else's answer is rejected."""
    columns = (answer.c.answer_id, answer.c.user_name)
    if read.answer_id is not None:
        found = connection.execute(select(*columns).where(answer.c.answer_id == read.answer_id)).mappings().all()
    elif read.question is not None and read.text is not None and read.model is not None:
        same = (answer.c.assistant == read.model) & (answer.c.question == read.question) & (answer.c.text == read.text)
        found = connection.execute(select(*columns).where(same).limit(2)).mappings().all()
    else:
        found = []
    if not found:
        raise UnreadableRowError("unknown_answer")
    if len(found) > 1:
        raise UnreadableRowError("ambiguous_answer")
    if read.user is not None and read.user != found[0]["user_name"]:
        raise UnreadableRowError("foreign_answer")
    return found[0]


def reject_lines(rejects: list[Reject]) -> Iterator[Mapping[str, Any]]:
    """The rejects report, one mapping a row."""
    for reject in rejects:
        yield {"line": reject.line, "reason": reject.reason, "row": reject.row}
