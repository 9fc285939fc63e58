"""Secrets that an installation makes for itself and keeps in its database."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, select

from affinage.database.inserting import insert_new
from affinage.database.tables.identity import installation

PSEUDONYMS = "pseudonym_secret"
COUNTERSIGNATURES = "countersign_secret"


def installation_secret(connection: Connection, name: str) -> bytes:
    """The secret of this name, 32 bytes, made at first use (needs a write transaction then)."""
    query = select(installation.c.value).where(installation.c.key == name)
    found = connection.execute(query).scalar()
    if found is None:
        insert_new(connection, installation, key=name, value=secrets.token_hex(32))
        found = connection.execute(query).scalar_one()
    return bytes.fromhex(found)
