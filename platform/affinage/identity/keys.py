"""API keys: shown once, stored hashed.

A key is 256 random bits, so one SHA-256 is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from affinage.database.tables.identity import api_key
from affinage.errors import UnknownObjectError

PREFIX = "aff_"


@dataclass(frozen=True)
class KeyOwner:
    """Whose key it is. `scope` is all that it is good for; None: all that the user may do."""

    user: str
    scope: str | None = None


@dataclass(frozen=True)
class ApiKey:
    """A stored key, without its secret."""

    key_id: str
    user: str
    created_at: datetime
    revoked_at: datetime | None
    scope: str | None = None


def source_scope(source: str) -> str:
    """The scope of a key that may only say that `source` has changed."""
    return f"source:{source}"


def new_secret() -> str:
    """A fresh key."""
    return PREFIX + secrets.token_urlsafe(32)


def key_hash(key: str) -> str:
    """What is stored of `key`."""
    return hashlib.sha256(key.encode()).hexdigest()


def create_key(
    connection: Connection, *, user: str, now: datetime, new_id: Callable[[], str], key: str | None = None, scope: str | None = None
) -> tuple[str, str]:
    """Store a new key for `user`; returns (key id, key). The key cannot be read again."""
    key = key or new_secret()
    key_id = new_id()
    connection.execute(insert(api_key).values(key_id=key_id, key_hash=key_hash(key), user_name=user, created_at=now, scope=scope))
    return key_id, key


def owner_of_key(connection: Connection, *, key: str) -> KeyOwner | None:
    """Whose valid key this is, or None."""
    query = select(api_key.c.user_name, api_key.c.scope).where(api_key.c.key_hash == key_hash(key), api_key.c.revoked_at.is_(None))
    row = connection.execute(query).first()
    return None if row is None else KeyOwner(row.user_name, row.scope)


def revoke_key(connection: Connection, *, key_id: str, now: datetime) -> None:
    """Make the key invalid; again is a no-op."""
    row = connection.execute(select(api_key.c.revoked_at).where(api_key.c.key_id == key_id)).first()
    if row is None:
        raise UnknownObjectError("key", key_id, hint="`affinage key list` shows the ids.")
    if row.revoked_at is None:
        connection.execute(update(api_key).where(api_key.c.key_id == key_id).values(revoked_at=now))


def list_keys(connection: Connection) -> Sequence[ApiKey]:
    """All keys, oldest first."""
    rows = connection.execute(select(api_key).order_by(api_key.c.created_at))
    return [ApiKey(row.key_id, row.user_name, row.created_at, row.revoked_at, row.scope) for row in rows]
