"""Child processes that end with their parent.

Called where work needs a process of its own: training (one thread, its memory given back at the end) and the Prefect
server. On Linux the kernel ends the child when its parent is gone, also after `kill -9`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
# From linux/prctl.h.


def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` as a child that ends with this process.

    The kernel looks at the thread that called: call from a thread that lives as long as the child may.

    Parameters
    ----------
    environment
        Added to this process's environment.
    """
    return subprocess.Popen(  # noqa: S603  our own commands, never a shell
        list(command),
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=folder,
        preexec_fn=_end_with_parent() if sys.platform == "linux" else None,  # noqa: PLW1509  one call, no Python code in it
    )


def stop(process: subprocess.Popen[bytes], *, grace_seconds: float = 5) -> None:
    """Ask the child to end, then end it."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=grace_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_with_parent() -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl  # loaded before the fork: the child must not import anything
    parent = os.getpid()

    def configure() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent went between fork and here
            os._exit(1)

    return configure
