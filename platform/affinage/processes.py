"""Child processes that end with their parent.

Called where work needs a process of its own: training (one thread, its memory given back at the end), reading documents (which
may crash or never end), text recognition, the Prefect server and vLLM. On Linux the kernel ends the child when its parent is gone,
also after `kill -9`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

PR_SET_PDEATHSIG = 1
# From linux/prctl.h.
_SUPERVISOR = "_AFFINAGE_SUPERVISOR"
# Not a setting: without the prefix of those.
_END_GROUP, _KILL_GROUP = signal.SIGUSR1, signal.SIGHUP
# Not SIGTERM: who ends this process may send it to its children as well (BentoML does), and they are still needed then.


def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    inherited: Collection[str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
    folder: Path | None = None,
    group: bool = False,
) -> subprocess.Popen[bytes]:
    """Start `command` as a child that ends with this process.

    The kernel looks at the thread that called: call from a thread that lives as long as the child may.

    Parameters
    ----------
    environment
        Added to this process's environment.
    inherited
        Names of the variables it gets of this process's environment, which may hold secrets; None: all.
    group
        Whether all that `command` starts ends with it (Linux): a process stays between that watches over them.
    """
    # A step between instead of `preexec_fn`: that would fork this process, whose libraries run threads of their own.
    step = "lead" if group else "become"
    between = [sys.executable, "-I", "-S", __file__, step, str(os.getpid())] if sys.platform == "linux" else []
    given = os.environ if inherited is None else {name: os.environ[name] for name in inherited if name in os.environ}
    return subprocess.Popen(  # noqa: S603  our own commands, never a shell
        [*between, *command],
        env={**given, **(environment or {})},
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=folder,
    )


def stop(process: subprocess.Popen[bytes], *, grace_seconds: float = 5, group: bool = False) -> None:
    """Ask the child to end, then end it; with `group` as it was spawned."""
    if process.poll() is not None:
        return
    process.send_signal(_END_GROUP if group else signal.SIGTERM)
    try:
        process.wait(timeout=grace_seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(_KILL_GROUP if group else signal.SIGKILL)
        process.wait()


def give_back_memory() -> None:
    """Free what nobody refers to, and let the C library return it to the system where it can (glibc)."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # musl has none
            ctypes.CDLL(None).malloc_trim(0)


def note_supervisor() -> None:
    """Remember this process as the supervisor of those it starts, unless it was started by one."""
    os.environ.setdefault(_SUPERVISOR, str(os.getpid()))


def end_with_supervisor() -> None:
    """Have the kernel end this process when its supervisor is gone (Linux); at once when it is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.environ.get(_SUPERVISOR) not in {None, str(os.getppid()), str(os.getpid())}:
        os._exit(1)


def give_up(*, supervised: bool) -> None:
    """End this process, which cannot do its work, at once.

    Parameters
    ----------
    supervised
        Its parent does nothing but run it, and would start it again and again while callers wait: end the parent first.
    """
    if supervised:
        os.kill(os.getppid(), signal.SIGTERM)
    os._exit(1)


def _become(parent: int, command: list[str]) -> None:
    """Ask the kernel to end this process with `parent`, then turn into `command`."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent went before the kernel was asked
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606  the command that our own process gave
    except OSError as error:
        sys.exit(f"{command[0]} does not start: {error.strerror}")


def _lead(parent: int, command: list[str]) -> None:
    """Run `command` in a process group of its own; kill what is left of it when `command` ends, and all of it with `parent`."""
    try:
        child = subprocess.Popen(command, process_group=0)  # noqa: S603  the command that our own process gave
    except OSError as error:
        sys.exit(f"{command[0]} does not start: {error.strerror}")

    def kill(_signal: int = 0, _frame: FrameType | None = None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    for others in (signal.SIGINT, signal.SIGTERM):
        signal.signal(others, signal.SIG_IGN)
    signal.signal(_END_GROUP, lambda _signal, _frame: child.terminate())
    signal.signal(_KILL_GROUP, kill)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, _KILL_GROUP)
    if os.getppid() != parent:
        kill()
    code = child.wait()
    kill()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    {"become": _become, "lead": _lead}[sys.argv[1]](int(sys.argv[2]), sys.argv[3:])
