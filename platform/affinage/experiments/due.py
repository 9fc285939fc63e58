"""Which candidates wait for their experiment: they passed the gate, and nothing is in their way.

Called by the controller. Setting the alias `candidate` in MLflow is all that a data scientist has to do.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from affinage.database.tables.experiments import experiment
from affinage.database.tables.registry import alias_move, gate_result, variant
from affinage.experiments.evidence import latest_served
from affinage.registry.moves import pointer_of
from affinage.registry.names import CANDIDATE


def due_candidates(connection: Connection) -> list[tuple[str, str]]:
    """Assistant and variant of each candidate that should meet users now, by assistant.

    A candidate is due when the alias names it, it passed the gate, its adapter is countersigned, something serves that it can be compared
    with, no experiment of its assistant is under way, and none has tried it before. An embedder's adapter is never due:
    it changes what is found for everybody, and is promoted by hand on the gate's word.
    """
    query = select(alias_move.c.assistant, alias_move.c.variant_id).where(alias_move.c.alias == CANDIDATE)
    named = {row.assistant: row.variant_id for row in connection.execute(query.order_by(alias_move.c.created_at))}
    return sorted((assistant, found) for assistant, found in named.items() if found is not None and _due(connection, assistant, found))


def _due(connection: Connection, assistant: str, candidate: str) -> bool:
    row = connection.execute(select(variant).where(variant.c.variant_id == candidate)).one()
    if row.tainted or row.retired_at is not None or row.adapter_task == "embedder":
        return False
    if row.adapter is not None and row.countersignature is None:
        return False
    passed = select(gate_result.c.gate_id).where(gate_result.c.variant_id == candidate, gate_result.c.passed).limit(1)
    if connection.execute(passed).first() is None:
        return False
    pointer = pointer_of(connection, assistant)
    control = pointer.variant_id if pointer is not None else latest_served(connection, assistant)
    if control in (None, candidate):
        return False
    in_the_way = experiment.c.ended_at.is_(None) | (experiment.c.candidate_variant == candidate)
    tried = select(experiment.c.experiment_id).where(experiment.c.assistant == assistant, in_the_way).limit(1)
    return connection.execute(tried).first() is None
