"""Real servers for the tests: those that `make cluster-bin` builds and the programs it installs, started on loopback and watched."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from affinage.processes import spawn

T = TypeVar("T")
POLL_SECONDS = 0.05
SHOWN_LINES = 25


def program(name: str) -> Path | None:
    """Where the program (or a file that goes with them) lies: in a folder of CLUSTER_BIN, colons between, or on the PATH."""
    found = shutil.which(name, mode=os.F_OK, path=os.environ.get("CLUSTER_BIN", "")) or shutil.which(name)
    return Path(found) if found else None


def required(name: str, *, target: str = "make test-cluster") -> Path:
    """The program, which `target` builds or installs; without it the test fails in CI, and is skipped with its reason elsewhere."""
    found = program(name)
    if found is not None:
        return found
    reason = f"{name} is not here: `{target}` builds or installs it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@dataclass(frozen=True)
class Server:
    """A started process and the file that holds what it said."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def last_words(self) -> str:
        """Its state and the end of its log, for an error message."""
        ended = self.process.poll()
        state = "runs" if ended is None else f"ended with {ended}"
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f"{self.name} {state}; {self.log}:", *lines[-SHOWN_LINES:]])


@contextmanager
def started(name: str, command: Sequence[str | Path], *, folder: Path) -> Iterator[Server]:
    """The process of `command`, its log in `folder`; killed afterwards, and by the kernel when this process goes first.

    Killed without asking: what these servers hold is thrown away, and the API server would wait for its watchers.
    """
    log = folder / f"{name}.log"
    with log.open("ab") as written:
        process = spawn([str(word) for word in command], stdout=written, stderr=written, folder=folder)
    try:
        yield Server(name, process, log)
    finally:
        process.kill()
        process.wait()


def wait_for(look: Callable[[], T | None], *, what: str, seconds: float, servers: Sequence[Server] = ()) -> T:
    """What `look` returns once that is true; fails when `seconds` have passed or one of `servers` has ended."""
    until = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        gone = [server for server in servers if server.process.poll() is not None]
        if gone or time.monotonic() > until:
            told = "\n\n".join(server.last_words() for server in (gone or servers))
            reason = "a server ended" if gone else f"{seconds:g} s have passed"
            raise AssertionError(f"{what}: {reason}.\n{told}".rstrip())
        time.sleep(POLL_SECONDS)
