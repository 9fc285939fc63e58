"""Sources that somebody says have changed: a sync is due, and nothing is believed of what they say.

A hint is done when a sync that began after it has ended. What began when is told by the fence of the source's lease, which
grows with every run: no clock is compared with another. Any number of hints wait for one sync.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, exists, select, update

from affinage.database.inserting import insert_new
from affinage.database.tables.declarations import source as source_table
from affinage.database.tables.index import index_run, lease, source_hint
from affinage.index.reports import FAILED
from affinage.index.upkeep import lease_name


def record_hint(connection: Connection, source: str, *, now: datetime) -> bool:
    """Note that `source` has changed; False when that is noted already and no run has begun since."""
    fence = connection.execute(select(lease.c.fence).where(lease.c.name == lease_name(source))).scalar() or 0
    noted = connection.execute(select(source_hint.c.after_fence).where(source_hint.c.source == source)).scalar()
    if noted == fence:
        return False
    change = update(source_hint).where(source_hint.c.source == source).values(after_fence=fence, asked_at=now)
    if connection.execute(change).rowcount:
        return True
    if not insert_new(connection, source_hint, source=source, after_fence=fence, asked_at=now):
        connection.execute(change)  # another gateway was told the same at this moment
    return True


def hinted_sources(connection: Connection) -> list[str]:
    """Declared sources with a hint that no sync has answered, by name."""
    answered = exists().where(
        index_run.c.source == source_hint.c.source,
        index_run.c.action == "sync",
        index_run.c.status != FAILED,
        index_run.c.fence > source_hint.c.after_fence,
    )
    query = select(source_hint.c.source).join(source_table, source_table.c.name == source_hint.c.source)
    query = query.where(source_table.c.removed_at.is_(None), ~answered).order_by(source_hint.c.source)
    return list(connection.execute(query).scalars())
