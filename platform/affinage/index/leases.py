"""One writer at a time, by name, with a fence that grows with every holder.

A holder whose process is dead on this host is replaced at once; any other when it has not renewed its lease for
`LEASE_SECONDS`. Writers check the fence inside their transactions, so one that was replaced writes nothing more.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from affinage.database.engine import Database
from affinage.database.tables.index import lease as table
from affinage.errors import AffinageError, ConflictError

LEASE_SECONDS = 15.0
RENEW_SECONDS = 4.0
# Three renewals may be lost before somebody else takes over.
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Lease:
    """A held lease. `waited_for` is the fence of the holder that was waited for, or None."""

    name: str
    fence: int
    waited_for: int | None = None

    def check(self, connection: Connection) -> None:
        """Hold the lease's row for the rest of the transaction; raises `ConflictError` when somebody else took the lease."""
        fence = connection.execute(select(table.c.fence).where(table.c.name == self.name).with_for_update()).scalar()
        if fence != self.fence:
            message = f"The lease `{self.name}` was taken over by another process."
            raise ConflictError(message, hint="Run the command again.", retryable=True)

    def release(self, connection: Connection) -> None:
        """Give the lease back."""
        connection.execute(update(table).where(table.c.name == self.name, table.c.fence == self.fence).values(owner=None, until=None))


def this_process() -> dict[str, Any]:
    """What tells this process from all others, also from a later one with its number."""
    return {
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "space": _pid_space(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
    }


def is_dead(owner: Mapping[str, Any], *, here: Mapping[str, Any]) -> bool:
    """Whether `owner` ran on this host, in this process space, and is gone."""
    if not owner.get("boot") or owner.get("host") != here["host"]:
        return False
    if owner["boot"] != here["boot"]:
        return True  # the host was restarted
    return bool(owner.get("space") == here["space"] and _started(int(owner["pid"])) != owner["started"])


def try_acquire(connection: Connection, *, name: str, owner: Mapping[str, Any], now: datetime) -> tuple[int, bool]:
    """Take the lease if it is free.

    Returns
    -------
    tuple
        The fence, and whether it is ours; otherwise it is the present holder's.
    """
    row = connection.execute(select(table).where(table.c.name == name).with_for_update()).first()
    until = now + timedelta(seconds=LEASE_SECONDS)
    if row is None:
        connection.execute(insert(table).values(name=name, owner=dict(owner), fence=1, until=until))
        return 1, True
    # An expiry much further ahead than a lease lasts was written by a clock that has since been set back.
    live = row.owner is not None and row.until is not None and now < row.until <= until + timedelta(seconds=LEASE_SECONDS)
    if live and not is_dead(row.owner, here=this_process()):
        return row.fence, False
    connection.execute(update(table).where(table.c.name == name).values(owner=dict(owner), fence=row.fence + 1, until=until))
    return row.fence + 1, True


@contextmanager
def hold(
    database: Database,
    name: str,
    *,
    now: Callable[[], datetime],
    on_wait: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Lease]:
    """Hold the lease `name`, waiting for it as long as its holder lives; renewed in the background, released at the end."""
    owner = this_process()
    waited_for: int | None = None
    while True:
        try:
            with database.write() as connection:
                fence, ours = try_acquire(connection, name=name, owner=owner, now=now())
        except IntegrityError:
            continue  # somebody else created the row first
        if ours:
            break
        if waited_for is None:
            waited_for = fence
            on_wait()
        sleep(POLL_SECONDS)
    held = Lease(name, fence, waited_for)
    stop = threading.Event()
    renewal = threading.Thread(target=_renew, args=(database, held, now, stop), name=f"lease {name}", daemon=True)
    renewal.start()
    try:
        yield held
    finally:
        stop.set()
        renewal.join()
        with database.write() as connection:
            held.release(connection)


def _renew(database: Database, held: Lease, now: Callable[[], datetime], stop: threading.Event) -> None:
    while not stop.wait(RENEW_SECONDS):
        try:
            with database.write() as connection:
                until = now() + timedelta(seconds=LEASE_SECONDS)
                query = update(table).where(table.c.name == held.name, table.c.fence == held.fence).values(until=until)
                if not connection.execute(query).rowcount:
                    return  # taken over: the next check of the fence says so
        except AffinageError:
            continue  # tried again in a moment; if it stays so, the writer's own transaction reports it


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _pid_space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Start time of the process in clock ticks since boot; empty when it does not run (a zombie does not run)."""
    stat = _read(f"/proc/{pid}/stat")
    fields = stat.rpartition(")")[2].split()
    return "" if not fields or fields[0] in {"Z", "X"} else fields[19]
