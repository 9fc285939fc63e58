"""Which variants users meet now: what has to be on the pods."""

from __future__ import annotations

from sqlalchemy import Connection, select

from affinage.database.tables.registry import serving_pointer
from affinage.experiments.repository import list_experiments


def served_variants(connection: Connection) -> list[str]:
    """Ids of the champions and of the arms of experiments that have not ended, sorted."""
    champions = set(connection.execute(select(serving_pointer.c.variant_id)).scalars())
    arms = {arm for one in list_experiments(connection, live=True) for arm in (one.control_variant, one.candidate_variant)}
    return sorted(champions | arms)
