"""Promotion by hand: a recorded override of gate and experiment, never of verification.

An experiment's promotion moves the champion by `registry.moves` on its own evidence; this is for a person who decides.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from affinage.database.engine import Database
from affinage.registry.countersign import countersign
from affinage.registry.moves import Move, move_champion
from affinage.registry.variants import StoredVariant, stored_variant


def promote_by_hand(
    *,
    database: Database,
    variant_id: str,
    verify: Callable[[StoredVariant], Path],
    release: Callable[[str], StoredVariant],
    kept_ready: Callable[[StoredVariant], AbstractContextManager[None]],
    actor: str,
    reason: str,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
) -> Move:
    """Make the variant serve its assistant.

    Parameters
    ----------
    verify
        Files of the variant's adapter, fetched and verified.
    release
        The variant that can serve: an embedder's adapter gets its index first.
    kept_ready
        Entered for the move: raises unless everybody can be answered with the variant.
    actor, reason
        Who decided and why; both are kept with the move.

    Raises
    ------
    RefusedError
        If the files are not sound, or the variant is tainted or retired.
    """
    with database.read() as connection:
        stored = stored_variant(connection, variant_id)
    if stored.variant.adapter is not None:
        verify(stored)
        if stored.countersigned_at is None:
            with database.write() as connection:
                countersign(connection, variant_id=variant_id, gate_id=f"override:{new_id()}", now=now())
    served = release(variant_id)
    with kept_ready(served), database.write() as connection:
        return move_champion(
            connection,
            assistant=served.variant.assistant,
            to=served.variant_id,
            actor=actor,
            reason=reason,
            now=now(),
            new_id=new_id,
            kind="override",
        )
