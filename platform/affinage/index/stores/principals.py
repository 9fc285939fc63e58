"""How a store writes principals: as short hashes, so that it holds no name of a person or group."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

NOBODY = "nobody"
# A list may be empty in no store's update; no hash of a principal looks like this.


def principal_hash(principal: str) -> str:
    """96 bits of `principal` in hexadecimal."""
    return hashlib.blake2b(principal.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def stored_principals(allow: Iterable[str]) -> tuple[str, ...]:
    """The hashes of `allow`, sorted; `NOBODY` when there are none."""
    return tuple(sorted(principal_hash(principal) for principal in allow)) or (NOBODY,)
