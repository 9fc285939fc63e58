"""The controller: duties repeated every few seconds by one leader, so that what was decided becomes true by itself.

A duty looks at what should be and does what is missing; it may be killed at any instruction, and doing it twice changes
nothing. Of several controllers the one that holds the lease `controller` works; the others wait for it. A duty that fails is
logged and counted, and the next one has its turn all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from affinage.database.engine import Database
from affinage.errors import AffinageError, ConflictError, RefusedError
from affinage.index.leases import Lease, hold
from affinage.serving.responses import json_response
from affinage.serving.server import run_application
from affinage.telemetry import Metrics

LEASE = "controller"
EVERY_SECONDS = 2.0
"""Between two rounds: an alias moved in MLflow is seen within this time."""
STUCK_SECONDS = 300.0
"""A round that takes longer than this hangs: loading an adapter onto every pod takes seconds."""

log = logging.getLogger("affinage.controller")


@dataclass(frozen=True)
class Duty:
    """Something to be made true, again and again."""

    name: str
    do: Callable[[], object]


class Controller:
    """Repeats `duties` in order while it is the leader.

    Parameters
    ----------
    every_seconds
        Between the end of a round and the next.
    """

    def __init__(
        self,
        database: Database,
        duties: Iterable[Duty],
        *,
        metrics: Metrics,
        now: Callable[[], datetime],
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._database = database
        self._duties = tuple(duties)
        self._metrics = metrics
        self._now = now
        self._every = every_seconds
        self._stopping = threading.Event()
        self._sign_of_life = time.monotonic()

    @property
    def metrics(self) -> Metrics:
        """The metrics of this process."""
        return self._metrics

    @property
    def alive(self) -> bool:
        """Whether it waits for the lease, or its last round is not too long ago."""
        return time.monotonic() - self._sign_of_life < STUCK_SECONDS

    def run(self) -> None:
        """Wait for the lease, lead until it is lost, and wait again; returns after `stop`."""
        while not self._stopping.is_set():
            try:
                with hold(self._database, LEASE, now=self._now, sleep=self._sleep_or_stop) as lease:
                    self._lead(lease)
            except _StoppedError:
                return
            except ConflictError:
                log.warning("Another controller took over.")
            except AffinageError as error:
                # Mostly a database that is away: the lease cannot even be asked for.
                log.warning("The controller cannot lead: %s", error.message)
                self._stopping.wait(self._every)
            finally:
                self._metrics.controller_leader.set(0)

    def stop(self) -> None:
        """Let the running duty end, then return from `run`."""
        self._stopping.set()

    def _lead(self, lease: Lease) -> None:
        self._metrics.controller_leader.set(1)
        while not self._stopping.is_set():
            for duty in self._duties:
                with self._database.write() as connection:
                    lease.check(connection)
                self._perform(duty)
                self._sign_of_life = time.monotonic()
            self._stopping.wait(self._every)

    def _perform(self, duty: Duty) -> None:
        try:
            duty.do()
        except AffinageError as error:
            reasons = {"reasons": list(error.reasons)} if isinstance(error, RefusedError) else {}
            log.warning("The duty `%s` failed: %s", duty.name, error.message, extra={"duty": duty.name, "hint": error.hint, **reasons})
        except Exception:  # a fault of ours: the other duties must go on
            log.exception("The duty `%s` failed.", duty.name, extra={"duty": duty.name})
        else:
            return
        self._metrics.controller_duty_failures.labels(duty=duty.name).inc()

    def _sleep_or_stop(self, _seconds: float) -> None:
        self._sign_of_life = time.monotonic()
        if self._stopping.wait(self._every):
            raise _StoppedError


class _StoppedError(Exception):
    """Told to stop while waiting for the lease."""


def run_controller(controller: Controller, *, host: str, port: int, started: Callable[[str], None]) -> None:
    """Run `controller`, with its health and metrics on one port, until a signal ends it.

    Parameters
    ----------
    started
        Called with the address as soon as the socket is open.

    Raises
    ------
    UsageError
        If the address cannot be listened on.
    """
    with controlling(controller) as worker:
        run_application(Starlette(routes=_routes(controller, worker)), host=host, port=port, option="--metrics-port", started=started)


@contextmanager
def controlling(controller: Controller) -> Iterator[threading.Thread]:
    """Run `controller` in a thread while the block lasts."""
    worker = threading.Thread(target=controller.run, name="controller")
    worker.start()
    try:
        yield worker
    finally:
        controller.stop()
        worker.join()


def _routes(controller: Controller, worker: threading.Thread) -> list[Route]:
    async def health(_request: Request) -> Response:
        if worker.is_alive() and controller.alive:
            return json_response({"status": "live"})
        return json_response({"status": "stuck"}, status=503)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(controller.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return [Route("/health/live", health), Route("/health/ready", health), Route("/metrics", metrics)]
