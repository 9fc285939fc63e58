"""The controller: duties of one leader, whatever happens to the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from affinage.database.engine import Database
from affinage.errors import DependencyError
from affinage.serving.controller import LEASE, Controller, Duty, controlling
from affinage.telemetry import Metrics
from affinage.wiring import utc_now

WITHIN_SECONDS = 20


def made(database: Database, *duties: Duty, metrics: Metrics | None = None) -> Controller:
    return Controller(database, duties, metrics=metrics or Metrics(), now=utc_now, every_seconds=0.02)


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + WITHIN_SECONDS
    while not true():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.01)


def test_duties_are_repeated_in_order_until_it_stops(database: Database) -> None:
    done: list[str] = []
    with controlling(made(database, Duty("first", lambda: done.append("first")), Duty("second", lambda: done.append("second")))):
        wait_until(lambda: len(done) >= 6)
    count = len(done)
    assert done[:6] == ["first", "second"] * 3
    assert len(done) == count


def test_a_duty_that_fails_is_counted_and_holds_up_no_other(database: Database) -> None:
    metrics, done = Metrics(), []

    def refuse() -> None:
        raise DependencyError("mlflow", "MLflow is away.")

    def fault() -> None:
        raise ZeroDivisionError

    duties = Duty("refuse", refuse), Duty("fault", fault), Duty("work", lambda: done.append(1))
    with controlling(made(database, *duties, metrics=metrics)):
        wait_until(lambda: len(done) >= 2)
    failures = {
        sample.labels["duty"]: sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "affinage_controller_duty_failures_total"
    }
    assert set(failures) == {"refuse", "fault"}
    assert min(failures.values()) >= 2


def test_of_two_controllers_one_leads_and_the_other_follows_when_it_ends(database: Database) -> None:
    led: list[str] = []
    first = made(database, Duty("first", lambda: led.append("first")))
    second = made(database, Duty("second", lambda: led.append("second")))
    with controlling(first):
        wait_until(lambda: len(led) >= 2)
        with controlling(second):
            time.sleep(0.2)  # a second leader would have had ten rounds
            assert set(led) == {"first"}
            first.stop()
            wait_until(lambda: "second" in led)
    assert led == sorted(led), "never both at once"


def test_a_leader_that_was_replaced_does_nothing_more(database: Database) -> None:
    from sqlalchemy import update

    from affinage.database.tables.index import lease

    metrics, rounds = Metrics(), []
    taken = threading.Event()

    def work() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            with database.write() as connection:  # somebody who could not see that this process lives
                connection.execute(update(lease).where(lease.c.name == LEASE).values(fence=lease.c.fence + 1))
            taken.set()

    controller = made(database, Duty("work", work), Duty("more", lambda: rounds.append(2)), metrics=metrics)
    with controlling(controller):
        assert taken.wait(WITHIN_SECONDS)
        wait_until(lambda: metrics.registry.get_sample_value("affinage_controller_leader") == 0)
        assert rounds == [1, 2, 1]
        assert controller.alive
