"""Children end with their parent, even when it is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from affinage.processes import spawn, stop

PARENT = """
import sys, time
from affinage.processes import spawn
child = spawn([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    """Whether the process runs; a dead one that nobody has waited for does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_child_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        os.sched_yield()
    assert not alive(child)


def test_stopping_ends_a_child_that_ignores_the_polite_signal() -> None:
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = spawn([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    stop(child, grace_seconds=0.2)
    assert child.returncode == -signal.SIGKILL
    stop(child)  # again: a no-op


def test_the_environment_is_added_and_standard_input_is_closed() -> None:
    code = "import os, sys; print(os.environ['AFFINAGE_TEST'], os.environ['PATH'] != '', sys.stdin.read() == '')"
    child = spawn([sys.executable, "-c", code], environment={"AFFINAGE_TEST": "x"}, stdout=subprocess.PIPE)
    assert child.communicate()[0].decode().strip() == "x True True"
