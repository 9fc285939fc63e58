"""What was acknowledged survives a kill at any moment: acknowledged ⊆ stored ⊆ attempted."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from affinage.database.engine import Database

pytestmark = pytest.mark.integration
KILLS = 4
WRITER = """
import sys, threading
from affinage.database.engine import Database
from affinage.serving.writer import GroupWriter
database = Database(sys.argv[1])
first = int(sys.argv[2])
writer = GroupWriter(database)
lock = threading.Lock()
def client(start):
    for n in range(start, start + 100_000):
        writer.commit(lambda c: c.exec_driver_sql("INSERT INTO seen VALUES (?)", (n,)))
        with lock:
            print(n, flush=True)
for k in range(4):
    threading.Thread(target=client, args=(first + k * 1_000_000,)).start()
"""


def test_acknowledged_writes_survive_kills_and_nothing_else_appears(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'crash.db'}"
    database = Database(url)
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE seen (n INTEGER PRIMARY KEY)")
    database.close()
    rng, acknowledged = random.Random(7), set()
    for kill in range(KILLS):
        first = kill * 10_000_000
        child = subprocess.Popen([sys.executable, "-c", WRITER, url, str(first)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(rng.randrange(20, 120)):
            acknowledged.add(int(child.stdout.readline()))
        child.kill()
        rest, _ = child.communicate()
        acknowledged |= {int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")}
    with database.read() as connection:
        stored = set(connection.exec_driver_sql("SELECT n FROM seen").scalars())
    database.close()
    assert acknowledged <= stored
    # At most one write of each client was on its way when it was killed.
    assert len(stored - acknowledged) <= 4 * KILLS
