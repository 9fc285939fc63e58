from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from affinage.database.engine import Database
from affinage.database.tables.index import lease
from affinage.errors import ConflictError
from affinage.index.leases import LEASE_SECONDS, Lease, hold, is_dead, this_process, try_acquire
from tests.conftest import Clock

ELSEWHERE = {"boot": "b", "space": "s", "host": "another-host", "pid": 1, "started": "1"}


def acquire(database: Database, clock: Clock, owner: dict[str, object] | None = None) -> tuple[int, bool]:
    with database.write() as connection:
        return try_acquire(connection, name="source/a", owner=owner or this_process(), now=clock())


def test_fence_grows_with_every_holder(database: Database, clock: Clock) -> None:
    fences = []
    for _ in range(3):
        with hold(database, "source/a", now=clock) as held:
            fences.append(held.fence)
            assert held.waited_for is None
    assert fences == [1, 2, 3]


def test_living_holder_on_another_host_is_left_alone_until_its_lease_ends(database: Database, clock: Clock) -> None:
    assert acquire(database, clock, ELSEWHERE) == (1, True)
    clock.advance(seconds=LEASE_SECONDS - 0.1)
    assert acquire(database, clock) == (1, False)
    clock.advance(seconds=0.2)
    assert acquire(database, clock) == (2, True)


def test_living_process_on_this_host_is_left_alone(database: Database, clock: Clock) -> None:
    assert acquire(database, clock) == (1, True)
    assert acquire(database, clock) == (1, False)


def test_dead_process_on_this_host_is_replaced_at_once(database: Database, clock: Clock) -> None:
    code = "import json; from affinage.index.leases import this_process; print(json.dumps(this_process()))"
    import json

    dead = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert acquire(database, clock, dead) == (1, True)
    assert acquire(database, clock) == (2, True)


def test_process_number_that_was_given_to_another_process_counts_as_dead() -> None:
    here = this_process()
    assert not is_dead(here, here=here)
    assert is_dead({**here, "started": "1"}, here=here)
    assert is_dead({**here, "boot": "before the restart"}, here=here)
    assert not is_dead({**here, "space": "another container", "started": "1"}, here=here)
    assert not is_dead(ELSEWHERE, here=here)


def test_expiry_far_ahead_was_written_by_a_clock_that_was_wrong(database: Database, clock: Clock) -> None:
    acquire(database, clock, ELSEWHERE)
    with database.write() as connection:
        connection.execute(update(lease).values(until=clock() + timedelta(hours=1)))
    assert acquire(database, clock) == (2, True)


def test_waiter_learns_whom_it_waited_for(database: Database, clock: Clock) -> None:
    acquire(database, clock, ELSEWHERE)
    waits = []
    with hold(database, "source/a", now=clock, on_wait=lambda: waits.append(1), sleep=lambda _: clock.advance(seconds=5)) as held:
        assert (held.fence, held.waited_for, waits) == (2, 1, [1])


def test_check_refuses_a_holder_that_was_replaced(database: Database, clock: Clock) -> None:
    with hold(database, "source/a", now=clock) as held:
        with database.write() as connection:
            held.check(connection)
        with database.write() as connection:
            connection.execute(update(lease).values(fence=held.fence + 1, owner=ELSEWHERE))
        with pytest.raises(ConflictError), database.write() as connection:
            held.check(connection)
    with database.read() as connection:
        assert connection.execute(select(lease.c.owner)).scalar() == ELSEWHERE, "a stranger's lease is not released"


def test_lease_is_given_back_when_the_work_fails(database: Database, clock: Clock) -> None:
    with pytest.raises(RuntimeError), hold(database, "source/a", now=clock):
        raise RuntimeError
    assert acquire(database, clock) == (2, True)


def test_lease_that_was_never_taken_is_not_held(database: Database) -> None:
    with pytest.raises(ConflictError), database.write() as connection:
        Lease("source/none", 1).check(connection)
