"""Files by content: a folder on one machine, a bucket in a cluster.

Called by the rooms that keep large immutable things (extracted texts, dataset rows, adapters). Knows nothing of what
the bytes mean.
"""

from __future__ import annotations

import hashlib
from typing import Protocol


def digest_of(data: bytes) -> str:
    """SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def check_name(name: str) -> str:
    """`name`, if it is one; no blob lies outside the store."""
    if ".." in name.split("/") or name.startswith("/"):
        raise ValueError(f"not a blob name: {name!r}")
    return name


class BlobStore(Protocol):
    """Immutable bytes by name. Names are `kind/digest[.suffix]`."""

    def put(self, name: str, data: bytes) -> None:
        """Store `data`; durable on return. The same name with the same bytes again is a no-op."""

    def get(self, name: str) -> bytes:
        """Bytes of `name`; raises `UnknownObjectError` when absent."""

    def exists(self, name: str) -> bool:
        """Whether `name` is stored."""

    def delete(self, name: str) -> None:
        """Remove `name`; absent is fine."""
