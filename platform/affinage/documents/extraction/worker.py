"""The process that reads documents: `python -m affinage.documents.extraction.worker MEMORY_BYTES`, its socket as standard input.

Started by `pool.py` and killed by it. It has no secrets in its environment, writes no files, leaves no core, and ends when
its parent does. Whatever a document does here, the worst is that this process is gone.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import socket
import sys
import time

from affinage.documents import languages
from affinage.documents.extraction import dispatch, progress
from affinage.documents.extraction.messages import Done, Failed, Request, Step, pack, unpack
from affinage.errors import DocumentError

MAX_REQUEST_BYTES = 1 << 31
STEP_SECONDS = 0.5
# Between signs of life: small documents give none.
_PR_SET_NO_NEW_PRIVS = 38
# From linux/prctl.h: no program that it starts has more rights.


def main(memory_bytes: int) -> None:
    """Answer requests until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    sys.dont_write_bytecode = True
    languages.load()
    _confine(memory_bytes)
    with socket.socket(fileno=0) as channel:
        channel.sendall(_STEP)
        while True:
            try:
                request = unpack(channel, Request, limit=MAX_REQUEST_BYTES)
            except EOFError:
                return
            reply = _read(request, channel)
            channel.sendall(reply)


def _confine(memory_bytes: int) -> None:
    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)]
    if sys.platform == "linux":
        limits.append((resource.RLIMIT_AS, memory_bytes))
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for which, most in limits:
        resource.setrlimit(which, (most, most))


def _read(request: Request, channel: socket.socket) -> bytes:
    told = time.monotonic()

    def tell() -> None:
        nonlocal told
        if time.monotonic() - told >= STEP_SECONDS:
            told = time.monotonic()
            channel.sendall(_STEP)

    try:
        with progress.reporting(tell):
            return pack(Done(dispatch.extract(request.data, path=request.path, xml=request.xml)))
    except DocumentError as error:
        return pack(Failed(error.reason, error.message, error.hint, error.retryable))
    except MemoryError:
        return _OUT_OF_MEMORY
    except Exception as error:  # noqa: BLE001  the edge of the process: one document's trouble must not end the run
        return pack(Failed("crashed", f"Reading {request.path} failed: {type(error).__name__}.", "Save it anew, or report it.", True))


_STEP = pack(Step())
# Made before memory can be short.
_OUT_OF_MEMORY = pack(Failed("too_large", "", "", retryable=True, spent=True))

if __name__ == "__main__":
    main(int(sys.argv[1]))
