"""Rows that several processes may make at the same time."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_new(connection: Connection, table: Table, **values: Any) -> bool:
    """Insert a row unless its key, or another unique column, is taken; whether it was inserted.

    Who looks first and then inserts is overtaken by another process: this waits for the other's transaction, and its row can be
    read afterwards.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return connection.execute(insert(table).values(**values).on_conflict_do_nothing()).rowcount == 1
