"""Requests that come one by one, answered together: a thread takes what waits and has it generated in one batch.

An engine that takes several calls at once, and batches them itself, has as many threads with one request each.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from affinage.engines.protocols import Generation, GenerationRequest
from affinage.errors import DependencyError

GATHER_SECONDS = 0.01
"""A caller that asks many things at once sends them within milliseconds; without this pause the first of them would be
generated alone, and the others after it. A token takes some 60 ms on one core."""


@dataclass(frozen=True)
class _Job:
    request: GenerationRequest
    answer: Future[Generation] = field(default_factory=Future)


class Batcher:
    """Collects what waits, and what comes within `GATHER_SECONDS` of the one before.

    Parameters
    ----------
    generate
        Answers several requests in their order.
    rows
        Requests of one batch.
    threads
        Batches under way at once.
    waiting
        Requests that may wait; what comes beyond is refused at once.
    observe
        Told the size of each batch.
    """

    def __init__(
        self,
        generate: Callable[[Sequence[GenerationRequest]], list[Generation]],
        *,
        rows: int,
        waiting: int,
        threads: int = 1,
        observe: Callable[[float], None] = lambda _rows: None,
    ) -> None:
        self._generate = generate
        self._rows = rows
        self._observe = observe
        self._queue: queue.Queue[_Job] = queue.Queue(maxsize=waiting)
        for _ in range(threads):
            # A daemon: at the end of the process nobody is left to read its answers.
            threading.Thread(target=self._work, name="batcher", daemon=True).start()

    def submit(self, request: GenerationRequest) -> Future[Generation]:
        """The answer to come.

        Raises
        ------
        DependencyError
            If too many requests wait.
        """
        job = _Job(request)
        try:
            self._queue.put_nowait(job)
        except queue.Full as error:
            raise DependencyError("generator", "The generator is overloaded.", hint="Try again in a moment.") from error
        return job.answer

    def _work(self) -> None:
        while True:
            jobs = [self._queue.get()]
            while len(jobs) < self._rows:
                try:
                    jobs.append(self._queue.get(timeout=GATHER_SECONDS))
                except queue.Empty:
                    break
            # Whoever has left meanwhile is not answered.
            wanted = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            if wanted:
                self._observe(len(wanted))
                self._answer(wanted)

    def _answer(self, jobs: Sequence[_Job]) -> None:
        try:
            answers = self._generate([job.request for job in jobs])
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
                return
            # One of them cannot be answered: the others must not pay for it.
            for job in jobs:
                self._answer([job])
            return
        for job, answer in zip(jobs, answers, strict=True):
            job.answer.set_result(answer)
