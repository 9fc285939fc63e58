"""What the process that reads a document and the one that asked say to each other, over a socket.

No pickles: the reader handles hostile bytes in native code, and what it answers must not run in the process that asked.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from affinage.documents.blocks import ExtractedDocument

_LENGTH = struct.Struct("!Q")
_PIECE = 1 << 20


class Request(msgspec.Struct):
    """A document to read."""

    path: str
    data: bytes
    xml: Mapping[str, str]


class Step(msgspec.Struct, tag="step"):
    """The extraction goes on."""


class Done(msgspec.Struct, tag="done"):
    """The document was read."""

    document: ExtractedDocument


class Failed(msgspec.Struct, tag="failed"):
    """It was not. `spent`: the process has no memory left, and ends."""

    reason: str
    message: str
    hint: str
    retryable: bool = False
    spent: bool = False


Reply = Step | Done | Failed


def pack(message: msgspec.Struct) -> bytes:
    """The bytes of one message."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


def unpack(channel: socket.socket, kind: Any, *, limit: int, before: Callable[[], None] = lambda: None) -> Any:
    """Read one message of `kind`, a type or a union of types; `before` is called before each wait.

    Raises
    ------
    EOFError
        If the other side is gone.
    ValueError
        If it says more than `limit` bytes, or what is no such message.
    """
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size, before))
    if length > limit:
        raise ValueError(f"a message of {length} bytes")
    return msgspec.msgpack.decode(_exactly(channel, length, before), type=kind)


def _exactly(channel: socket.socket, length: int, before: Callable[[], None]) -> bytearray:
    body = bytearray(length)
    view = memoryview(body)
    while view:
        before()
        try:
            got = channel.recv_into(view, min(len(view), _PIECE))
        except (ConnectionResetError, BrokenPipeError):
            got = 0
        if not got:
            raise EOFError
        view = view[got:]
    return body
