"""Which variants users meet now, or may meet again at once: what has to be on the pods, and what may go."""

from __future__ import annotations

from sqlalchemy import Connection, select

from affinage.database.tables.index import generation
from affinage.database.tables.registry import serving_pointer, variant
from affinage.experiments.repository import list_experiments


def served_variants(connection: Connection) -> list[str]:
    """Ids of the champions and of the arms of experiments that have not ended, sorted."""
    champions = set(connection.execute(select(serving_pointer.c.variant_id)).scalars())
    arms = {arm for one in list_experiments(connection, live=True) for arm in (one.control_variant, one.candidate_variant)}
    return sorted(champions | arms)


def unneeded_adapters(connection: Connection) -> set[str]:
    """Adapters of this installation that no champion, no former one, no running experiment and no index generation needs.

    The former champion stays, so that a rollback finds it. An adapter that this installation does not know is somebody else's.
    """
    former = set(connection.execute(select(serving_pointer.c.previous_variant_id)).scalars())
    stay = former | set(served_variants(connection))
    rows = connection.execute(select(variant.c.variant_id, variant.c.adapter).where(variant.c.adapter.is_not(None))).all()
    embedders = {embedder.get("adapter") for embedder in connection.execute(select(generation.c.embedder)).scalars()}
    return {row.adapter for row in rows} - {row.adapter for row in rows if row.variant_id in stay} - embedders
