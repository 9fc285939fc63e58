"""The loop from answers to datasets, with judgements made up on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection

from affinage.blobs.folder import FolderBlobs
from affinage.database.engine import Database
from affinage.datasets.build import build_dataset
from affinage.datasets.snapshots import Snapshot
from affinage.declarations.model import AssistantSpec, TuningSpec
from affinage.feedback.submission import parse_submission
from affinage.feedback.submit import submit
from tests.conftest import Clock
from tests.support.answers import declare, record

SCHEMA = {
    "type": "object",
    "properties": {"product": {"type": "string"}, "reason": {"enum": ["late", "broken"]}, "reference": {"type": ["string", "null"]}},
    "required": ["product", "reason", "reference"],
    "additionalProperties": False,
}
CALLS = AssistantSpec(
    name="calls",
    task="extract",
    engine="package:smollm2",
    sources=(),
    prompt="extract-json",
    answer_schema=SCHEMA,
    tuning=TuningSpec(min_examples=100),
)


class Loop:
    """Answers and judgements of an assistant, and datasets built from them."""

    def __init__(self, database: Database, blobs: FolderBlobs, clock: Clock, new_id: Callable[[], str]) -> None:
        self.database, self.blobs, self.clock, self.new_id = database, blobs, clock, new_id
        self.connection: Connection | None = None

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction around many judgements: each own transaction waits for the disk."""
        with self.database.write() as connection:
            self.connection = connection
            yield connection
        self.connection = None

    def say(self, answer_id: str, *, by: str, **said: Any) -> str:
        if self.connection is None:
            with self.writing():
                return self.say(answer_id, by=by, **said)
        self.clock.advance(seconds=1)
        submission = parse_submission({"answer_id": answer_id, **said})
        return submit(self.connection, submission, by=by, now=self.clock(), new_id=self.new_id).feedback_id

    def build(self, spec: AssistantSpec, kind: Any, **options: Any) -> Snapshot:
        return build_dataset(self.database, self.blobs, assistant=spec, kind=kind, now=self.clock, **options)

    def call(self, number: int, *, user: str, correction: str | None = None) -> str:
        """One call with a corrected reading; each has words of its own."""
        if self.connection is None:
            with self.writing():
                return self.call(number, user=user, correction=correction)
        answer_id = f"call-{user}-{number}"
        # Own words for each user and call, so that none nearly repeats another.
        words = " ".join(f"{user}{number}word{n}" for n in range(8))
        record(self.connection, answer_id, user=user, assistant="calls", question=f"Call: {words}", text="I don't know.")
        right = json.dumps({"reference": None, "reason": "late", "product": f"box {user} {number}"})
        self.say(answer_id, by=user, rating="down", correction=correction or right)
        return answer_id


@pytest.fixture
def loop(database: Database, blobs: FolderBlobs, clock: Clock, new_id: Callable[[], str]) -> Loop:
    with database.write() as connection:
        declare(connection, CALLS)
    return Loop(database, blobs, clock, new_id)


@pytest.fixture
def called(loop: Loop) -> Loop:
    """24 agents with 9 corrected calls each."""
    with loop.writing():
        for agent in range(24):
            for number in range(9):
                loop.call(number, user=f"agent{agent:02d}")
    return loop
