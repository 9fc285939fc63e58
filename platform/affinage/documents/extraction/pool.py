"""Extraction in processes that can be killed: a document that loops, crashes or unpacks without end costs its own process.

A process is started at the first document and kept for the next ones. Called by `index` and the command line through
`wiring`; tests of formats call `dispatch.extract`, which does the same in the calling process.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import msgspec

from affinage.documents.blocks import ExtractedDocument
from affinage.documents.extraction import limits
from affinage.documents.extraction.messages import Done, Failed, Reply, Request, Step, pack, unpack
from affinage.errors import DependencyError, DocumentError
from affinage.processes import spawn

LOGGER = logging.getLogger(__name__)
RECYCLED_AFTER = 2_000
# Documents; native libraries leak a little.
START_SECONDS = 120.0
# Until a process is ready; it takes one, and many on a machine that is short of memory.
WORKER = ("-m", "affinage.documents.extraction.worker")
_INHERITED = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "TESSDATA_PREFIX", "VIRTUAL_ENV")
# No AFFINAGE_*, no cloud credentials: they have no business in a process that a crafted font may take over.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1"}
# Each thread reserves address space, which is limited.


@dataclass(frozen=True)
class Limits:
    """What one document may cost; see `limits.py`."""

    memory_bytes: int = limits.MAX_MEMORY_BYTES
    silent_seconds: float = limits.MAX_SILENT_SECONDS
    seconds: float = limits.MAX_SECONDS


class ExtractionPool:
    """Extracts documents in at most `size` processes, as many at once. Safe to call from several threads.

    Parameters
    ----------
    program
        What Python runs; a test puts another one in its place.
    """

    def __init__(self, *, size: int = 1, limits: Limits | None = None, program: Sequence[str] = WORKER) -> None:
        self._limits = limits or Limits()
        self._program = program
        self._free = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        # The kernel ends a child with the thread that started it: with this one, not with whichever called first.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="extraction-starter")

    def __enter__(self) -> ExtractionPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def extract(self, data: bytes, *, path: str, xml: Mapping[str, str] | None = None) -> ExtractedDocument:
        """As `dispatch.extract`, within the limits.

        Raises
        ------
        DocumentError
            Also with reason `too_slow`, `too_large` (of memory) or `crashed`, then retryable.
        DependencyError
            If no process starts: no document is to blame.
        """
        request = pack(Request(path, data, xml or {}))
        with self._free:
            worker = self._take()
            blameless = worker.done == 0
            reply = self._asked(worker, request, path)
            if not blameless and isinstance(reply, Failed) and worker.is_over and reply.reason != "too_slow":
                # What earlier documents left behind, or whoever killed the process, may have been the reason.
                reply = self._asked(self._started(), request, path)
        if isinstance(reply, Failed):
            raise DocumentError(path, reply.reason, reply.message, hint=reply.hint, retryable=reply.retryable)
        return reply.document

    def close(self) -> None:
        """End the processes that wait for work."""
        with self._lock:
            while self._idle:
                self._idle.pop().end()
        self._starter.shutdown()

    def _take(self) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.process.poll() is None:
                    return worker
                worker.end()
        return self._started()

    def _started(self) -> _Worker:
        worker = self._starter.submit(_Worker, self._limits, self._program).result()
        worker.wait_until_ready()
        return worker

    def _asked(self, worker: _Worker, request: bytes, path: str) -> Done | Failed:
        try:
            reply = worker.ask(request, path)
        except BaseException:
            worker.end()
            raise
        if worker.is_over or worker.done >= RECYCLED_AFTER:
            worker.end()
        else:
            with self._lock:
                self._idle.append(worker)
        return reply


class _Worker:
    """One process. `done` counts the documents it answered for; `is_over`: it must not be asked again."""

    def __init__(self, limits: Limits, program: Sequence[str]) -> None:
        self._limits = limits
        self.done = 0
        self.is_over = False
        self._channel, theirs = socket.socketpair()
        with theirs:
            # -P: a module in the working folder is not ours.
            command = [sys.executable, "-P", *program, str(limits.memory_bytes)]
            self.process = spawn(
                command,
                environment=_ONE_THREAD,
                inherited=_INHERITED,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def wait_until_ready(self) -> None:
        """Wait for its first sign of life, so that no document pays for the start."""
        self._channel.settimeout(START_SECONDS)
        try:
            unpack(self._channel, Step, limit=limits.MAX_REPLY_BYTES)
        except (TimeoutError, EOFError, ValueError, msgspec.DecodeError) as error:
            self.end()
            message = f"The process that reads documents does not start (exit code {self.process.returncode})."
            hint = f"See what it says: {sys.executable} -P -m {WORKER[1]} {self._limits.memory_bytes} < /dev/null"
            raise DependencyError("extraction", message, hint=hint) from error

    def ask(self, request: bytes, path: str) -> Done | Failed:
        """Have one document read; whatever happens is a reply."""
        started = heard = time.monotonic()

        def wait() -> None:
            now = time.monotonic()
            left = min(heard + self._limits.silent_seconds, started + self._limits.seconds) - now
            if left <= 0:
                raise TimeoutError
            self._channel.settimeout(left)

        try:
            wait()
            self._channel.sendall(request)
            while True:
                reply: Reply = unpack(self._channel, Reply, limit=limits.MAX_REPLY_BYTES, before=wait)
                if not isinstance(reply, Step):
                    break
                heard = time.monotonic()
        except TimeoutError:
            return self._over(_too_slow(path, time.monotonic() - started), path)
        except (EOFError, BrokenPipeError, ConnectionResetError, ValueError, msgspec.DecodeError):
            return self._over(_crashed(path), path)
        self.done += 1
        if isinstance(reply, Failed) and reply.spent:
            return self._over(_out_of_memory(path, self._limits.memory_bytes), path)
        assert isinstance(reply, Done | Failed)
        return reply

    def _over(self, reply: Failed, path: str) -> Failed:
        self.is_over = True
        self.process.kill()
        code = self.process.wait()
        LOGGER.info("A process that read a document has ended.", extra={"path": path, "reason": reply.reason, "code": code})
        return reply

    def end(self) -> None:
        """Kill the process: it holds nothing that anybody needs."""
        self.is_over = True
        with contextlib.suppress(OSError):
            self._channel.close()
        self.process.kill()
        self.process.wait()


def _too_slow(path: str, seconds: float) -> Failed:
    hint = "Split it, or save it anew; it is tried again later."
    return Failed("too_slow", f"Reading {path} was given up after {seconds:.0f} s.", hint, retryable=True)


def _out_of_memory(path: str, limit: int) -> Failed:
    hint = "Split it, or save it anew; it is tried again later."
    return Failed("too_large", f"Reading {path} takes more than {limit >> 20} MiB of memory.", hint, retryable=True)


def _crashed(path: str) -> Failed:
    hint = "Open it in the program that made it and save it anew; it is tried again later."
    return Failed("crashed", f"The process that read {path} has ended: the document is damaged, or made to do harm.", hint, retryable=True)
