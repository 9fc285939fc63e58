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


GROUP = """
import subprocess, sys, time
from affinage.processes import spawn
code = "import subprocess, sys, time; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True); %s"
child = spawn([sys.executable, "-c", code % sys.argv[1]], stdout=subprocess.PIPE, group=True)
print(child.pid, int(child.stdout.readline()), flush=True)
print(child.wait(), flush=True)
time.sleep(60)
"""


def gone(*pids: int, within_seconds: float = 10) -> bool:
    deadline = time.monotonic() + within_seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(map(alive, pids))


def grandchild(act: str) -> tuple[subprocess.Popen[str], int, int]:
    """A parent, its child's watcher, and the child of a child that does `act`."""
    parent = subprocess.Popen([sys.executable, "-c", GROUP, act], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    leader, last = map(int, parent.stdout.readline().split())
    return parent, leader, last


def test_a_group_ends_with_its_first_process_whose_code_is_told() -> None:
    parent, _, last = grandchild("time.sleep(0.2); sys.exit(7)")
    assert parent.stdout is not None
    assert parent.stdout.readline().strip() == "7"
    assert gone(last)
    parent.kill()
    parent.wait()


def test_a_group_ends_when_its_parent_is_killed() -> None:
    parent, leader, last = grandchild("time.sleep(60)")
    assert alive(last)
    parent.kill()
    parent.wait()
    assert gone(leader, last)


def test_a_group_is_asked_to_end_before_it_is_killed() -> None:
    parent, leader, last = grandchild("import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); time.sleep(60)")
    assert parent.stdout is not None
    time.sleep(0.3)  # its handler is there
    os.kill(leader, signal.SIGTERM)  # of somebody else
    assert not gone(leader, within_seconds=0.3)
    os.kill(leader, signal.SIGUSR1)
    assert parent.stdout.readline().strip() == "3"
    assert gone(last)
    parent.kill()
    parent.wait()


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
