"""Clients that ask without pause, so that a test can count what a change of the server costs them.

Plain asyncio: a client library takes so much of the processor for each connection that few requests are made and losses hide.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PAUSE_SECONDS = 0.02
ANSWER_SECONDS = 30
# More than a stream takes.


@dataclass
class Load:
    """What happened so far."""

    answered: int = 0
    streamed: int = 0
    lost: list[str] = field(default_factory=list)
    """One line for each request without a whole answer."""


@contextmanager
def under_load(
    address: str, port: int, *, clients: int, streams: int, stream_path: str, path: str = "/", headers: str = "", stream_body: bytes = b""
) -> Iterator[Load]:
    """Ask for `path` with `clients` and for `stream_path` with `streams` at a time, each on a connection of its own, until left.

    An answer counts when its status is 200 and it is as long as its Content-Length says, or ends with the last chunk. What is under way
    at the end is waited for. `headers` are whole lines; a stream with a body is a POST of JSON.
    """
    load, ended = Load(), threading.Event()

    async def ask(path: str, body: bytes, *, stream: bool) -> None:
        while not ended.is_set():
            try:
                await asyncio.wait_for(_whole_answer(address, port, path, headers, body), ANSWER_SECONDS)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                load.lost.append(f"{path}: {type(error).__name__} {error}")
            else:
                load.streamed += stream
                load.answered += not stream
            await asyncio.sleep(PAUSE_SECONDS)

    async def all_clients() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(ask(path, b"", stream=False))
            for _ in range(streams):
                group.create_task(ask(stream_path, stream_body, stream=True))

    thread = threading.Thread(target=lambda: asyncio.run(all_clients()))
    thread.start()
    try:
        yield load
    finally:
        ended.set()
        thread.join()


async def _whole_answer(address: str, port: int, path: str, headers: str, body: bytes) -> None:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        given = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        start = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}{given}\r\n"
        writer.write(start.encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if " 200 " not in head.split("\r\n", 1)[0]:
            raise ValueError(head.split("\r\n", 1)[0])
        if "transfer-encoding: chunked" in head:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
        else:
            length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:"))
            await reader.readexactly(length)
    finally:
        writer.close()
