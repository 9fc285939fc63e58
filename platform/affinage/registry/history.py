"""What happened to a variant: gate results and moves, for people who look."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from affinage.database.tables.registry import alias_move, gate_result
from affinage.registry.moves import HELD
from affinage.registry.names import CHAMPION


def gate_results(connection: Connection, variant_id: str) -> list[dict[str, Any]]:
    """What the gate said of the variant, the newest last."""
    query = select(gate_result).where(gate_result.c.variant_id == variant_id).order_by(gate_result.c.created_at, gate_result.c.gate_id)
    return [
        {
            "gate_id": row.gate_id,
            "gate": "passed" if row.passed else "refused",
            "reasons": row.reasons,
            "metrics": row.metrics,
            "control": row.control_id,
            "dataset_id": row.dataset_id,
            "created_at": row.created_at,
        }
        for row in connection.execute(query)
    ]


def held_because(connection: Connection, variant_id: str) -> str | None:
    """Why the last attempt to make the variant champion came to nothing; None when it did, or nobody tried."""
    of_variant = (alias_move.c.variant_id == variant_id) & (alias_move.c.alias == CHAMPION)
    query = select(alias_move.c.kind, alias_move.c.reason).where(of_variant)
    last = connection.execute(query.order_by(alias_move.c.created_at.desc(), alias_move.c.version.desc().nulls_last()).limit(1)).first()
    return last.reason if last is not None and last.kind == HELD else None


def moves_of(connection: Connection, assistant: str) -> list[dict[str, Any]]:
    """Every recorded move of the assistant's aliases, the newest last."""
    query = select(alias_move).where(alias_move.c.assistant == assistant).order_by(alias_move.c.created_at, alias_move.c.version)
    keys = ("move_id", "alias", "variant_id", "kind", "version", "actor", "reason", "created_at", "done_at")
    return [{key: getattr(row, key) for key in keys} for row in connection.execute(query)]
