"""The process that reads documents, with one more format: `.poison`, whose bytes say what harm it does.

`python tests/support/poison_worker.py MEMORY_BYTES`, in place of the worker of `affinage.documents.extraction`.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

from affinage.documents.blocks import Block
from affinage.documents.extraction import dispatch, progress, worker


def read(data: bytes, *, path: str) -> dispatch.Extraction:
    """Do what the bytes say; they name one of the functions below, and what else they hold is the text."""
    name, _, text = data.decode().partition(" ")
    found = HARMS[name](text)
    READ.append(name)
    return dispatch.Extraction((Block("paragraph", str(found)),))


READ: list[str] = []
"""What this process has read."""


def _only_when_fresh(text: str) -> str:
    """Crash in a process that has read something before, as what a library leaked may."""
    return os.abort() if READ else text  # type: ignore[func-returns-value]


def _loop(_text: str) -> None:
    while True:
        pass


def _loop_in_native_code(_text: str) -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter's lock


def _expand(text: str) -> int:
    held = bytearray()
    while True:
        held += bytes(1 << 26)


def _recurse(text: str) -> str:
    return _recurse(text)


def _write(_text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bomb").write_bytes(bytes(1 << 20))


def _work(text: str) -> str:
    for _ in range(int(text)):
        time.sleep(0.2)
        progress.step()
    return text


def _work_for_ever(_text: str) -> None:
    while True:
        time.sleep(0.1)
        progress.step()


def _ignore_the_polite_signal(text: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _loop(text)


HARMS = {
    "nothing": lambda text: text,
    "loop": _loop,
    "native": _loop_in_native_code,
    "expand": _expand,
    "recurse": _recurse,
    "segfault": lambda _text: ctypes.string_at(0),
    "exit": lambda _text: os._exit(0),
    "abort": lambda _text: os.abort(),
    "lie": lambda _text: os.write(0, bytes(8) + b"x" * 64),
    "flood": lambda _text: os.write(0, b"\xff" * 8),
    "write": _write,
    "secrets": lambda _text: [name for name in os.environ if name.startswith(("AFFINAGE_", "AWS_"))] or "none",
    "pid": lambda _text: os.getpid(),
    "work": _work,
    "ever": _work_for_ever,
    "only-when-fresh": _only_when_fresh,
    "stubborn": _ignore_the_polite_signal,
}

if __name__ == "__main__":
    poison = ModuleType("affinage.documents.extraction.poison")
    poison.read = read  # type: ignore[attr-defined]
    sys.modules[poison.__name__] = poison
    dispatch.FORMATS[".poison"] = "poison"
    worker.STEP_SECONDS = 0.1
    worker.main(int(sys.argv[1]))
