"""Blocking work, off the event loop and bounded: what would wait too long is refused at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from affinage.errors import DependencyError

T = TypeVar("T")


class Pool:
    """Threads with a limit on running and waiting work.

    Parameters
    ----------
    name
        For thread names and messages.
    threads
        Work done at once.
    waiting
        Work accepted beyond that.
    timeout_seconds
        After this a caller gets an error; its work goes on in the thread and keeps its place until it ends.
    whose
        The process, in messages.
    """

    def __init__(self, name: str, *, threads: int, waiting: int, timeout_seconds: float, whose: str = "gateway") -> None:
        self._name = name
        self._whose = whose
        self._limit = threads + waiting
        self._timeout_seconds = timeout_seconds
        self._taken = 0
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """Result of `work`, run in a thread.

        Raises
        ------
        DependencyError
            If there is no room, or the result did not come in time.
        """
        if self._taken >= self._limit:
            raise DependencyError(self._whose, f"The {self._whose} is overloaded.", hint="Try again in a moment.")
        loop = asyncio.get_running_loop()
        self._taken += 1
        future = loop.run_in_executor(self._executor, work)
        # The place is free when the thread is, not when the caller gave up.
        future.add_done_callback(self._free)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self._timeout_seconds)
        except TimeoutError as error:
            raise DependencyError(self._whose, "The request took too long.", hint="Try again in a moment.") from error

    def _free(self, future: asyncio.Future[T]) -> None:
        self._taken -= 1
        if not future.cancelled():
            future.exception()  # retrieved, so that an abandoned failure is not reported as lost

    def close(self) -> None:
        """Let running work end; drop what waits."""
        self._executor.shutdown(wait=False, cancel_futures=True)
