"""The one thread of the gateway that writes, with group commit.

Writes that arrive while a transaction is being flushed to disk share the next one. Each has a savepoint of its own: one
that fails takes no other with it. A caller is released after the commit, so whatever it acknowledges is on disk.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError

from affinage.database.engine import Database
from affinage.errors import DependencyError

T = TypeVar("T")
MAX_GROUP = 64
# Writes of one transaction: some 64 inserts stay below the 50 ms that any other writer may have to wait.
MAX_WAITING = 1024
# A queue this long means the database is gone; more callers are told so at once.
CLOSE_SECONDS = 3.0
# A process that was told to end has five.
_Work = tuple[Callable[[Connection], Any], "Future[Any]"]


class GroupWriter:
    """Runs functions inside write transactions, in the order they were given."""

    def __init__(self, database: Database, *, timeout_seconds: float = 10.0) -> None:
        self._database = database
        self._timeout_seconds = timeout_seconds
        self._queue: queue.Queue[_Work | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def commit(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction and return its result once that is on disk.

        Raises
        ------
        DependencyError
            If the database is locked or gone, or the queue is full. After a time-out the work may still be committed
            later: a caller that repeats it needs an idempotency key.
        """
        future: Future[Any] = Future()
        try:
            self._queue.put_nowait((work, future))
        except queue.Full as error:
            raise DependencyError("database", "Too many writes are waiting.", hint="Try again in a moment.") from error
        try:
            return cast("T", future.result(self._timeout_seconds))
        except TimeoutError as error:
            future.cancel()
            raise DependencyError("database", "The database did not take a write in time.", hint="Try again in a moment.") from error

    def close(self) -> None:
        """Finish what was given, then stop; a database that is locked is not waited for longer than a caller would."""
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group, last = [first], False
            while len(group) < MAX_GROUP:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    last = True
                    break
                group.append(following)
            # A caller that gave up before its turn is left out; from here on it can no longer cancel.
            self._write([work for work in group if work[1].set_running_or_notify_cancel()])
            if last:
                return

    def _write(self, group: list[_Work]) -> None:
        results: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with self._database.write() as connection:
                for work, future in group:
                    try:
                        with connection.begin_nested():
                            results.append((future, work(connection), None))
                    except (OperationalError, InterfaceError):
                        raise  # the database itself: nobody's write went through
                    except Exception as error:  # noqa: BLE001 - belongs to this caller, who gets it below
                        results.append((future, None, error))
        except Exception as error:  # noqa: BLE001 - nothing of the group was committed: every caller gets the cause
            results = [(future, None, error) for _, future in group]
        for future, result, failure in results:
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
