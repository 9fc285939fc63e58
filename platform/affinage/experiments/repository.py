"""Rows of experiments, exposures and decisions, and the compare-and-swap by which an experiment changes its state.

Called by `operate`, `routing`, `evidence` and the console. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from affinage.database.tables import experiments as tables
from affinage.errors import ConflictError, UnknownObjectError
from affinage.experiments.replay import TestConfig
from affinage.experiments.states import TERMINAL, State, check_transition


@dataclass(frozen=True)
class Experiment:
    """One A/B between the champion and a candidate.

    `version` rises with each transition; `stage` indexes `shares`.
    """

    experiment_id: str
    assistant: str
    layer: str
    state: State
    version: int
    stage: int
    shares: tuple[float, ...]
    tests: TestConfig
    control_variant: str
    candidate_variant: str
    created_at: datetime
    ended_at: datetime | None = None

    @property
    def share(self) -> float:
        """The candidate's share at the present stage."""
        return self.shares[self.stage]


@dataclass(frozen=True)
class Decision:
    """One transition with what it was decided from."""

    decision_id: str
    experiment_id: str
    version: int
    from_state: State
    to_state: State
    actor: str
    inputs: Mapping[str, Any]
    created_at: datetime


def insert_experiment(connection: Connection, experiment: Experiment) -> None:
    """Store a new experiment.

    Raises
    ------
    ConflictError
        If the name is taken, or the assistant has an experiment that has not ended.
    """
    config = {"shares": list(experiment.shares), "tests": experiment.tests.as_dict()}
    try:
        with connection.begin_nested():
            connection.execute(
                insert(tables.experiment).values(
                    experiment_id=experiment.experiment_id,
                    assistant=experiment.assistant,
                    layer=experiment.layer,
                    state=experiment.state,
                    version=experiment.version,
                    stage=experiment.stage,
                    config=config,
                    control_variant=experiment.control_variant,
                    candidate_variant=experiment.candidate_variant,
                    created_at=experiment.created_at,
                )
            )
    except IntegrityError as error:
        running = find_live(connection, experiment.assistant)
        if running is not None:
            raise ConflictError(
                f"Assistant `{experiment.assistant}` already has experiment `{running.experiment_id}` in state {running.state}.",
                hint=f"Wait for it, or end it: `affinage experiment stop {running.experiment_id}`.",
            ) from error
        raise ConflictError(f"There is already an experiment `{experiment.experiment_id}`.", hint="Choose another `--name`.") from error


def get_experiment(connection: Connection, name: str) -> Experiment:
    """The experiment called `name`, or the newest one of the assistant called `name`.

    Raises
    ------
    UnknownObjectError
        If there is neither.
    """
    found = find_experiment(connection, name)
    if found is None:
        raise UnknownObjectError("experiment", name, hint="Start one: `affinage experiment start ASSISTANT --candidate VARIANT`.")
    return found


def find_experiment(connection: Connection, name: str) -> Experiment | None:
    """The experiment called `name`, else the newest one of the assistant called `name`, else None."""
    table = tables.experiment
    rows = connection.execute(
        select(table)
        .where(or_(table.c.experiment_id == name, table.c.assistant == name))
        .order_by((table.c.experiment_id == name).desc(), table.c.created_at.desc(), table.c.experiment_id.desc())
        .limit(1)
    )
    row = rows.first()
    return None if row is None else _experiment(row)


def find_exact(connection: Connection, experiment_id: str) -> Experiment | None:
    """The experiment with exactly this name, or None."""
    found = find_experiment(connection, experiment_id)
    return found if found is not None and found.experiment_id == experiment_id else None


def find_live(connection: Connection, assistant: str) -> Experiment | None:
    """The assistant's experiment that has not ended, or None."""
    table = tables.experiment
    row = connection.execute(select(table).where(table.c.assistant == assistant, table.c.ended_at.is_(None))).first()
    return None if row is None else _experiment(row)


def list_experiments(connection: Connection, *, live: bool = False) -> list[Experiment]:
    """All experiments, newest first; with `live`, those that have not ended."""
    table = tables.experiment
    query = select(table).order_by(table.c.created_at.desc(), table.c.experiment_id.desc())
    return [_experiment(row) for row in connection.execute(query.where(table.c.ended_at.is_(None)) if live else query)]


def count_experiments(connection: Connection, assistant: str) -> int:
    """How many experiments the assistant has had."""
    query = select(func.count()).select_from(tables.experiment).where(tables.experiment.c.assistant == assistant)
    return int(connection.execute(query).scalar_one())


def _experiment(row: Row[Any]) -> Experiment:
    return Experiment(
        experiment_id=row.experiment_id,
        assistant=row.assistant,
        layer=row.layer,
        state=State(row.state),
        version=row.version,
        stage=row.stage,
        shares=tuple(row.config["shares"]),
        tests=TestConfig(**row.config["tests"]),
        control_variant=row.control_variant,
        candidate_variant=row.candidate_variant,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def transition(
    connection: Connection,
    experiment: Experiment,
    to_state: State,
    *,
    actor: str,
    inputs: Mapping[str, Any],
    now: datetime,
    new_id: Callable[[], str],
    stage: int | None = None,
) -> Experiment:
    """Move the experiment to `to_state` if nobody has moved it since it was read, and record why.

    Raises
    ------
    ConflictError
        If the stored version is not the one that was read; nothing was changed.
    """
    check_transition(experiment.state, to_state)
    table = tables.experiment
    after = replace(
        experiment,
        state=to_state,
        version=experiment.version + 1,
        stage=experiment.stage if stage is None else stage,
        ended_at=now if to_state in TERMINAL else None,
    )
    moved = connection.execute(
        update(table)
        .where(table.c.experiment_id == experiment.experiment_id, table.c.version == experiment.version)
        .values(state=after.state, version=after.version, stage=after.stage, ended_at=after.ended_at)
    )
    if moved.rowcount != 1:
        raise ConflictError(
            f"Experiment `{experiment.experiment_id}` was changed by somebody else since version {experiment.version}.",
            hint="Look at it again: `affinage experiment status`.",
            retryable=True,
        )
    connection.execute(
        insert(tables.decision).values(
            decision_id=new_id(),
            experiment_id=experiment.experiment_id,
            version=after.version,
            from_state=experiment.state,
            to_state=to_state,
            actor=actor,
            inputs={"stage": after.stage, **inputs},
            created_at=now,
        )
    )
    return after


def list_decisions(connection: Connection, experiment_id: str) -> Sequence[Decision]:
    """The experiment's transitions, oldest first."""
    table = tables.decision
    rows = connection.execute(select(table).where(table.c.experiment_id == experiment_id).order_by(table.c.version))
    return [
        Decision(
            decision_id=row.decision_id,
            experiment_id=row.experiment_id,
            version=row.version,
            from_state=State(row.from_state),
            to_state=State(row.to_state),
            actor=row.actor,
            inputs=row.inputs,
            created_at=row.created_at,
        )
        for row in rows
    ]
