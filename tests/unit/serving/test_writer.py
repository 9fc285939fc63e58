from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from affinage.database.engine import Database
from affinage.errors import DependencyError, UsageError
from affinage.serving.writer import GroupWriter


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'writer.db'}")
    with opened.write() as connection:
        connection.exec_driver_sql("CREATE TABLE seen (n INTEGER PRIMARY KEY)")
    yield opened
    opened.close()


def insert(number: int):
    return lambda connection: connection.exec_driver_sql("INSERT INTO seen VALUES (?)", (number,)).rowcount


def stored(database: Database) -> set[int]:
    with database.read() as connection:
        return set(connection.exec_driver_sql("SELECT n FROM seen").scalars())


def test_a_result_comes_back_after_the_commit(database: Database):
    writer = GroupWriter(database)
    assert writer.commit(insert(1)) == 1
    assert stored(database) == {1}
    writer.close()


def test_writes_that_wait_share_a_transaction_and_one_that_fails_takes_no_other_with_it(database: Database):
    writer = GroupWriter(database)
    commits: list[object] = []
    event.listen(database.engine, "commit", commits.append)
    first_runs, go = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        first_runs.set()
        assert go.wait(10)

    def refuse(connection: Connection) -> None:
        insert(99)(connection)
        raise UsageError("no")

    with ThreadPoolExecutor(8) as pool:
        blocked = pool.submit(writer.commit, slow)
        assert first_runs.wait(10)
        good = [pool.submit(writer.commit, insert(n)) for n in range(5)]
        bad = pool.submit(writer.commit, refuse)
        while writer._queue.qsize() < 6:
            threading.Event().wait(0.001)
        go.set()
        blocked.result(10)
        assert [one.result(10) for one in good] == [1] * 5
        with pytest.raises(UsageError):
            bad.result(10)
    assert stored(database) == set(range(5))
    assert len(commits) == 2
    writer.close()


def test_a_locked_database_is_told_in_time_and_what_was_given_up_is_not_written(database: Database):
    writer = GroupWriter(database, timeout_seconds=0.1)
    with database.write(), pytest.raises(DependencyError) as caught:
        writer.commit(insert(1))
    assert caught.value.system == "database"
    assert writer._queue.empty()
    writer.close()


def test_a_write_that_was_given_up_before_its_turn_is_left_out(database: Database):
    writer = GroupWriter(database, timeout_seconds=0.1)
    with database.write():
        for number in (1, 2):  # the first is being tried, the second waits in the queue
            with pytest.raises(DependencyError):
                writer.commit(insert(number))
    writer.close()
    assert 2 not in stored(database)


def test_a_failing_database_fails_every_write_of_the_group_and_the_writer_goes_on(database: Database):
    writer = GroupWriter(database)
    with pytest.raises(DependencyError):
        writer.commit(lambda connection: connection.exec_driver_sql("SELECT * FROM missing"))
    assert writer.commit(insert(3)) == 1
    writer.close()


def test_closing_finishes_what_was_given(database: Database):
    writer = GroupWriter(database)
    with ThreadPoolExecutor(4) as pool:
        given = [pool.submit(writer.commit, insert(n)) for n in range(20)]
        assert [one.result(10) for one in given] == [1] * 20
    writer.close()
    assert stored(database) == set(range(20))
    assert not writer._thread.is_alive()
