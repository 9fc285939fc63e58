"""Look at an experiment and end it: the operations that join the pure parts to the database; `start` begins it.

Called by the command line, the controller, the flows and the demo. Each operation may be killed at any instruction and
called again: a transition and its record are one transaction, and moving the champion twice moves it once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from affinage.database.engine import Database
from affinage.errors import ConflictError
from affinage.experiments.events import RATING, Event
from affinage.experiments.evidence import decision_inputs, read_evidence
from affinage.experiments.policy import Situation, Step, next_step
from affinage.experiments.promotion import Mover
from affinage.experiments.replay import ReplayResult, replay
from affinage.experiments.repository import (
    Decision,
    Experiment,
    get_experiment,
    list_decisions,
    transition,
)
from affinage.experiments.start import CONTROLLER
from affinage.experiments.states import DECIDING, LIVE, State
from affinage.experiments.status import first_ratings, set_metrics
from affinage.registry.moves import pointer_of
from affinage.telemetry import Metrics

_MOST_STEPS = 8
# Resume, ramp, promote and finish in one look; more than this is a fault in the policy.


@dataclass(frozen=True)
class Evaluation:
    """What one look at an experiment found and did. `result` is None when there was nothing left to decide."""

    experiment: Experiment
    result: ReplayResult | None
    steps: tuple[Step, ...]


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
    ready: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
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
    ready
        Entered before a variant is made the champion: raises unless everybody can be answered with it. Until then the
        experiment stays where it is.

    Raises
    ------
    ConflictError
        If somebody else is changing the experiment; retryable.
    """
    move = Mover(database, promote=promote, rollback=rollback, ready=ready, now=now, new_id=new_id, actor=actor)
    steps: list[Step] = []
    result: ReplayResult | None = None
    for _ in range(_MOST_STEPS):
        look = _look(database, experiment_id, at=now())
        experiment, result = look.experiment, look.result or result
        if metrics is not None:
            set_metrics(metrics, experiment, result)
        if experiment.state in (State.PROMOTING, State.ROLLING_BACK):
            steps.append(move.finish(experiment))
        elif look.step is not None:
            # Decided is not enough: a candidate that is not everywhere goes on as it is, and can still be stopped.
            with ready(experiment.candidate_variant) if look.step.to_state is State.PROMOTING else nullcontext():
                _take(database, look, look.step, actor=actor, new_id=new_id)
            steps.append(look.step)
        else:
            return Evaluation(experiment, result, tuple(steps))
    raise RuntimeError(f"experiment {experiment_id} does not come to rest: {[str(s.to_state) for s in steps]}")


def _take(database: Database, look: _Look, step: Step, *, actor: str, new_id: Callable[[], str]) -> None:
    with database.write() as connection:
        transition(
            connection, look.experiment, step.to_state, stage=step.stage, actor=actor, inputs=look.inputs(step), now=look.at, new_id=new_id
        )


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
