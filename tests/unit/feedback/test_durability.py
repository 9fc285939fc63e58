"""What was acknowledged is on disk: nothing is lost and nothing doubled when the process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from affinage.database.engine import Database
from affinage.feedback.listing import list_feedback
from tests.support.answers import record

KILLS = 4
ACKNOWLEDGED_BEFORE_KILL = 15

WRITER = """
import itertools, sys, uuid
from datetime import UTC, datetime
from affinage.database.engine import Database
from affinage.feedback.submission import Submission
from affinage.feedback.submit import submit

database = Database(sys.argv[1])
for number in itertools.count():
    key = f"{sys.argv[2]}-{number}"
    print("attempt", key, flush=True)
    with database.write() as connection:
        submit(connection, Submission(answer_id="a1", comment=key), by="alice", now=datetime.now(UTC), new_id=lambda: uuid.uuid4().hex,
               idempotency_key=key)
    print("stored", key, flush=True)
"""


def test_acknowledged_feedback_survives_a_kill_at_any_instruction(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'affinage.db'}"
    database = Database(url)
    database.migrate()
    with database.write() as connection:
        record(connection, "a1")
    attempted, acknowledged = set(), set()
    for kill in range(KILLS):
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, url, f"w{kill}"], stdout=subprocess.PIPE, text=True, env=environment
        ) as writer:
            assert writer.stdout is not None
            said = []
            for line in writer.stdout:
                said.append(line.split())
                # Each time at another place: after an acknowledgement, or in the middle of the next write.
                if len(said) == 2 * ACKNOWLEDGED_BEFORE_KILL + kill % 2:
                    writer.send_signal(signal.SIGKILL)
                    break
            said += [line.split() for line in writer.stdout]
        attempted |= {key for word, key in said if word == "attempt"}
        acknowledged |= {key for word, key in said if word == "stored"}
    with database.read() as connection:
        stored = [str(row["comment"]) for row in list_feedback(connection)]
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL: also survives a power cut
    database.close()
    assert len(acknowledged) >= KILLS * ACKNOWLEDGED_BEFORE_KILL
    assert acknowledged <= set(stored) <= attempted
    assert len(stored) == len(set(stored))
