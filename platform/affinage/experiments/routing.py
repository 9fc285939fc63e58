"""What the gateway asks of an experiment: the arm of a unit, and a row for its first use of the arm.

The table is a small snapshot that the gateway keeps and reads again when the pointers' epoch changes; `assign` is pure.
A request without a unit gets control and is left out of the evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, func, select

from affinage.database.inserting import insert_new
from affinage.database.tables.experiments import exposure
from affinage.experiments.assignment import CANDIDATE, CONTROL, position, probability, splits
from affinage.experiments.repository import Experiment, list_experiments
from affinage.experiments.states import SPLITTING


@dataclass(frozen=True)
class RoutingTable:
    """The experiments that split traffic now, by assistant."""

    experiments: Mapping[str, Experiment] = field(default_factory=dict)


@dataclass(frozen=True)
class Assignment:
    """The arm of one request.

    `q` is the probability of the candidate given the unit's earlier arms; 0 or 1 carries no evidence. Without an
    experiment `variant_id` and `experiment_id` are None: the champion serves.
    """

    arm: str
    q: float
    variant_id: str | None
    experiment_id: str | None
    stage: int


CHAMPION = Assignment(arm=CONTROL, q=0.0, variant_id=None, experiment_id=None, stage=0)


def load_routing(connection: Connection) -> RoutingTable:
    """The routing table of this moment."""
    return RoutingTable({e.assistant: e for e in list_experiments(connection, live=True) if e.state in SPLITTING})


def assign(table: RoutingTable, assistant: str, unit: str | None, earlier_arms: Mapping[int, str]) -> Assignment:
    """The arm of `unit`.

    Parameters
    ----------
    unit
        Pseudonym, conversation or key; None or empty for anonymous use.
    earlier_arms
        Stage → arm of the unit's exposures in this experiment (`earlier_arms` reads them).
    """
    experiment = table.experiments.get(assistant)
    if experiment is None:
        return CHAMPION
    if not unit:
        return Assignment(CONTROL, 0.0, experiment.control_variant, experiment.experiment_id, experiment.stage)
    stages = splits(experiment.shares)
    u = position(unit, experiment=experiment.experiment_id, layer=experiment.layer)
    arm = stages[experiment.stage].arm_of(u)
    q = probability(stages, stage=experiment.stage, earlier_arms=earlier_arms)
    variant = experiment.candidate_variant if arm == CANDIDATE else experiment.control_variant
    return Assignment(arm, q, variant, experiment.experiment_id, experiment.stage)


def earlier_arms(connection: Connection, *, experiment_id: str, unit: str) -> dict[int, str]:
    """Stage → arm of the unit's exposures."""
    query = select(exposure.c.stage, exposure.c.arm).where(exposure.c.experiment_id == experiment_id, exposure.c.unit == unit)
    return {row.stage: row.arm for row in connection.execute(query)}


def record_exposure(connection: Connection, *, assignment: Assignment, unit: str | None, answer_id: str, now: datetime) -> bool:
    """Store the unit's first use of an arm at a stage; False when there was nothing to store.

    A row of an earlier stage never follows one of a later stage (a replica with an old table): its probability would no
    longer be that of a fresh draw.
    """
    if assignment.experiment_id is None or not unit:
        return False
    of_unit = (exposure.c.experiment_id == assignment.experiment_id) & (exposure.c.unit == unit)
    newest = connection.execute(select(func.max(exposure.c.stage)).where(of_unit)).scalar()
    if newest is not None and newest >= assignment.stage:
        return False
    # Another replica may have stored the same first use.
    return insert_new(
        connection,
        exposure,
        experiment_id=assignment.experiment_id,
        unit=unit,
        stage=assignment.stage,
        arm=assignment.arm,
        q=assignment.q,
        answer_id=answer_id,
        created_at=now,
    )
