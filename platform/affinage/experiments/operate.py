"""Start an experiment, look at it, end it: the operations that join the pure parts to the database.

Called by the command line, the controller, the flows and the demo. Each operation may be killed at any instruction and
called again: a transition and its record are one transaction, and moving the champion twice moves it once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from affinage.database.engine import Database
from affinage.declarations.model import RolloutSpec
from affinage.errors import ConflictError, RefusedError, UsageError
from affinage.experiments.assignment import DEFAULT_LAYER
from affinage.experiments.events import RATING, Event
from affinage.experiments.evidence import decision_inputs, latest_served, read_evidence
from affinage.experiments.policy import Situation, Step, next_step
from affinage.experiments.promotion import Mover
from affinage.experiments.replay import ReplayResult, TestConfig, replay
from affinage.experiments.repository import (
    Decision,
    Experiment,
    count_experiments,
    find_exact,
    get_experiment,
    insert_experiment,
    list_decisions,
    transition,
)
from affinage.experiments.states import DECIDING, LIVE, State
from affinage.experiments.status import first_ratings, set_metrics
from affinage.registry.moves import check_may_serve, move_champion, pointer_of
from affinage.telemetry import Metrics

CONTROLLER = "controller"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_MOST_STEPS = 8
# Resume, ramp, promote and finish in one look; more than this is a fault in the policy.


@dataclass(frozen=True)
class Evaluation:
    """What one look at an experiment found and did. `result` is None when there was nothing left to decide."""

    experiment: Experiment
    result: ReplayResult | None
    steps: tuple[Step, ...]


def start_experiment(
    database: Database,
    *,
    assistant: str,
    candidate: str,
    rollout: RolloutSpec,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
    name: str | None = None,
    layer: str = DEFAULT_LAYER,
    actor: str = CONTROLLER,
    warm: Callable[[str], None] | None = None,
) -> Experiment:
    """Put `candidate` before users at the first declared share, against the champion.

    Where nobody has chosen a champion, the variant of the assistant's newest answer becomes it.

    Parameters
    ----------
    candidate
        Id of a variant that may serve: not tainted, its adapter countersigned.
    warm
        Loads and proves the candidate, and raises when that fails; default: the gateway loads it at its first use.

    Raises
    ------
    RefusedError
        If the candidate may not serve, is the champion already, or the assistant has no champion.
    ConflictError
        If the assistant has an experiment that has not ended, or the name is taken.
    """
    with database.write() as connection:
        control = _check_start(connection, assistant=assistant, candidate=candidate, actor=actor, now=now(), new_id=new_id)
        name = name or _next_name(connection, assistant)
        if not _NAME.fullmatch(name):
            raise UsageError(f"`{name}` is no name for an experiment.", hint="Use small letters, digits, dot, dash and underscore.")
        experiment = Experiment(
            experiment_id=name,
            assistant=assistant,
            layer=layer,
            state=State.DRAFT,
            version=0,
            stage=0,
            shares=tuple(rollout.shares),
            tests=_tests(rollout),
            control_variant=control,
            candidate_variant=candidate,
            created_at=now(),
        )
        insert_experiment(connection, experiment)
        for state, reason in (
            (State.VALIDATED, "The candidate may serve: it is not tainted, and its adapter, if any, is countersigned."),
            (State.LOADING, "The candidate is being loaded."),
        ):
            experiment = transition(connection, experiment, state, actor=actor, inputs={"reason": reason}, now=now(), new_id=new_id)
    if warm is not None:
        _warm(database, experiment, warm, actor=actor, now=now, new_id=new_id)
    reason = "The candidate is loaded and proven." if warm is not None else "The gateway loads and proves the candidate at its first use."
    with database.write() as connection:
        experiment = transition(connection, experiment, State.WARM, actor=actor, inputs={"reason": reason}, now=now(), new_id=new_id)
        opening = {"reason": f"The candidate serves a share of {experiment.share:g}."}
        return transition(connection, experiment, State.CANARY, actor=actor, inputs=opening, now=now(), new_id=new_id)


def _check_start(connection: Connection, *, assistant: str, candidate: str, actor: str, now: datetime, new_id: Callable[[], str]) -> str:
    check_may_serve(connection, assistant=assistant, variant_id=candidate)
    pointer = pointer_of(connection, assistant)
    control = pointer.variant_id if pointer is not None else latest_served(connection, assistant)
    if control is None:
        raise RefusedError(
            f"Assistant `{assistant}` has no champion to compare `{candidate}` with.",
            reasons=["Nothing serves yet."],
            hint=f"Ask it once, so that its declared variant serves: `affinage ask {assistant} QUESTION --as USER`.",
        )
    if control == candidate:
        raise RefusedError(
            f"Variant `{candidate}` is the champion of `{assistant}` already.",
            reasons=["There is nothing to compare."],
            hint="Name another variant.",
        )
    if pointer is None:
        # From here on the control must not change with the declaration, so what was declared becomes the champion.
        reason = "It served when the first experiment began."
        move_champion(
            connection,
            assistant=assistant,
            to=control,
            actor=actor,
            reason=reason,
            now=now,
            new_id=new_id,
            kind="default",
            expected_version=0,
        )
    return control


def _next_name(connection: Connection, assistant: str) -> str:
    number = count_experiments(connection, assistant) + 1
    while find_exact(connection, f"{assistant}-{number}") is not None:
        number += 1
    return f"{assistant}-{number}"


def _tests(rollout: RolloutSpec) -> TestConfig:
    return TestConfig(
        alpha=rollout.alpha,
        alpha_harm=rollout.alpha_harm,
        min_units=rollout.min_units,
        min_days=rollout.min_days,
        max_days=rollout.max_days,
    )


def _warm(
    database: Database,
    experiment: Experiment,
    warm: Callable[[str], None],
    *,
    actor: str,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
) -> None:
    try:
        warm(experiment.candidate_variant)
    except Exception as error:
        with database.write() as connection:
            reason = {"reason": f"The candidate could not be loaded: {error}"}
            transition(connection, experiment, State.ABORTED, actor=actor, inputs=reason, now=now(), new_id=new_id)
        raise


def stop_experiment(
    database: Database,
    *,
    experiment_id: str,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
    actor: str,
    reason: str = "Stopped by hand.",
) -> Experiment:
    """End the experiment with the control kept; the next request already goes to the champion. Nothing to do if it ended.

    Raises
    ------
    ConflictError
        If the champion is being moved at this moment.
    """
    with database.write() as connection:
        experiment = get_experiment(connection, experiment_id)
        if experiment.ended_at is not None:
            return experiment
        if experiment.state not in LIVE:
            raise ConflictError(
                f"Experiment `{experiment.experiment_id}` is {experiment.state}.",
                hint=f"Let it finish: `affinage experiment evaluate {experiment.experiment_id}`.",
            )
        return transition(connection, experiment, State.ABORTED, actor=actor, inputs={"reason": reason}, now=now(), new_id=new_id)


def evaluate_experiment(
    database: Database,
    *,
    experiment_id: str,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
    promote: Callable[[str], None] | None = None,
    rollback: Callable[[], None] | None = None,
    metrics: Metrics | None = None,
    actor: str = CONTROLLER,
) -> Evaluation:
    """Look at the evidence and do what follows from it: ramp, pause, resume, promote, roll back, or nothing.

    Parameters
    ----------
    promote
        Makes a variant the champion; called again after a crash only if the champion has not moved. Default: the
        registry's move of the champion, in a transaction of its own.
    rollback
        What follows once traffic is back on the champion. Default: the alias `candidate` is cleared.

    Raises
    ------
    ConflictError
        If somebody else is changing the experiment; retryable.
    """
    move = Mover(database, promote=promote, rollback=rollback, now=now, new_id=new_id, actor=actor)
    steps: list[Step] = []
    result: ReplayResult | None = None
    for _ in range(_MOST_STEPS):
        look = _look(database, experiment_id, at=now())
        experiment, result = look.experiment, look.result or result
        if experiment.state in (State.PROMOTING, State.ROLLING_BACK):
            step = move.finish(experiment)
        elif look.step is not None:
            step = look.step
            with database.write() as connection:
                transition(
                    connection,
                    experiment,
                    step.to_state,
                    stage=step.stage,
                    actor=actor,
                    inputs=look.inputs(step),
                    now=look.at,
                    new_id=new_id,
                )
        else:
            break
        steps.append(step)
    else:
        raise RuntimeError(f"experiment {experiment_id} does not come to rest: {[str(s.to_state) for s in steps]}")
    if metrics is not None:
        set_metrics(metrics, experiment, result)
    return Evaluation(experiment, result, tuple(steps))


@dataclass(frozen=True)
class _Look:
    """The experiment, its evidence and the step that is due, as of one instant."""

    experiment: Experiment
    events: Sequence[Event]
    result: ReplayResult | None
    step: Step | None
    started_at: datetime
    at: datetime

    def inputs(self, step: Step) -> Mapping[str, Any]:
        """What the decision record keeps: the reason, and everything from which it can be replayed."""
        assert self.result is not None
        evidence = decision_inputs(self.events, self.experiment.tests, self.result, started_at=self.started_at, ended_at=self.at)
        return {"reason": step.reason, **evidence}


def _look(database: Database, experiment_id: str, *, at: datetime) -> _Look:
    with database.read() as connection:
        experiment = get_experiment(connection, experiment_id)
        if experiment.state not in DECIDING:
            return _Look(experiment, (), None, None, experiment.created_at, at)
        events = read_evidence(connection, experiment.experiment_id)
        decisions = list_decisions(connection, experiment.experiment_id)
        pointer = pointer_of(connection, experiment.assistant)
    started_at = _began(decisions, stage=0)
    result = replay(events, experiment.tests, started_at=started_at, ended_at=at)
    ratings = [event for event in events if event.kind == RATING]
    situation = Situation(
        state=experiment.state,
        stage=experiment.stage,
        shares=experiment.shares,
        result=result,
        stage_rated=sum(event.stage == experiment.stage for event in first_ratings(events)),
        stage_elapsed=at - _began(decisions, stage=experiment.stage),
        silence=at - max(event.at for event in ratings if event.at) if ratings else None,
        overridden=pointer is not None and pointer.variant_id != experiment.control_variant,
        min_units=experiment.tests.min_units,
        min_days=experiment.tests.min_days,
    )
    return _Look(experiment, events, result, next_step(situation), started_at, at)


def _began(decisions: Sequence[Decision], *, stage: int) -> datetime:
    """When the stage began: its first transition into serving at this share."""
    serving = (State.CANARY, State.RAMP)
    return next(d.created_at for d in decisions if d.to_state in serving and d.inputs["stage"] == stage)
