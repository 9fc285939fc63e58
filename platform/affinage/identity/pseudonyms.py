"""The unit of experiments: a user's pseudonym under an installation secret.

Computed before assignment, so neither logs nor the experiment's tables hold a name.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from sqlalchemy import Connection, insert, select

from affinage.database.tables.identity import installation

_ROW = "pseudonym_secret"


def installation_secret(connection: Connection) -> bytes:
    """The installation's secret, made at first use (needs a write transaction then)."""
    row = connection.execute(select(installation.c.value).where(installation.c.key == _ROW)).first()
    if row is not None:
        return bytes.fromhex(row.value)
    secret = secrets.token_hex(32)
    connection.execute(insert(installation).values(key=_ROW, value=secret))
    return bytes.fromhex(secret)


def pseudonym(secret: bytes, user: str) -> str:
    """HMAC-SHA-256 of the user's name, 32 hexadecimal digits."""
    return hmac.new(secret, user.encode(), hashlib.sha256).hexdigest()[:32]
