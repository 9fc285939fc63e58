"""Start an experiment: the candidate is loaded and proven, and then serves the first declared share.

Called by the command line, the controller and the demo. While a start is under way its process holds a lease, so that one
that was killed is told from one that is slow: the controller resumes the first and leaves the second alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import Connection

from affinage.database.engine import Database
from affinage.declarations.model import RolloutSpec
from affinage.errors import AffinageError, ConflictError, RefusedError, UsageError
from affinage.experiments.assignment import DEFAULT_LAYER
from affinage.experiments.evidence import latest_served
from affinage.experiments.replay import TestConfig
from affinage.experiments.repository import Experiment, count_experiments, find_exact, get_experiment, insert_experiment, transition
from affinage.experiments.states import State
from affinage.index.leases import hold
from affinage.registry.moves import check_may_serve, move_champion, pointer_of

CONTROLLER = "controller"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
PATIENCE = timedelta(minutes=10)
"""A candidate that no pod could take for this long is given up: a pod with a large base needs minutes to start."""


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
    patience: timedelta = timedelta(0),
) -> Experiment:
    """Put `candidate` before users at the first declared share, against the champion.

    Where nobody has chosen a champion, the variant of the assistant's newest answer becomes it.

    Parameters
    ----------
    candidate
        Id of a variant that may serve: not tainted, its adapter countersigned.
    warm
        Loads and proves the candidate, and raises when that fails; default: the gateway loads it at its first use.
    patience
        How long a failure that may pass leaves the experiment in LOADING, to be resumed; every other one ends it.

    Raises
    ------
    RefusedError
        If the candidate may not serve, is the champion already, or the assistant has no champion.
    ConflictError
        If the assistant has an experiment that has not ended, or the name is taken.
    """
    with _starting(database, assistant, now=now):
        experiment = _insert(
            database,
            assistant=assistant,
            candidate=candidate,
            rollout=rollout,
            name=name,
            layer=layer,
            actor=actor,
            now=now,
            new_id=new_id,
        )
        return _load_and_open(database, experiment, warm, patience=patience, actor=actor, now=now, new_id=new_id)


def resume_start(
    database: Database,
    *,
    experiment_id: str,
    warm: Callable[[str], None],
    now: Callable[[], datetime],
    new_id: Callable[[], str],
    actor: str = CONTROLLER,
    patience: timedelta = PATIENCE,
) -> Experiment | None:
    """Go on with a start that was cut off; None when there is nothing to go on with, or its process lives.

    Raises
    ------
    AffinageError
        If the candidate cannot be loaded: the experiment is ABORTED with the reason, or waits while `patience` lasts.
    """
    with database.read() as connection:
        experiment = get_experiment(connection, experiment_id)
    if experiment.state is not State.LOADING:
        return None
    try:
        with _starting(database, experiment.assistant, now=now):
            with database.read() as connection:
                experiment = get_experiment(connection, experiment_id)
            if experiment.state is not State.LOADING:
                return None  # its process has just ended, and well
            return _load_and_open(database, experiment, warm, patience=patience, actor=actor, now=now, new_id=new_id)
    except _UnderWayError:
        return None


class _UnderWayError(ConflictError):
    """Another process starts an experiment of this assistant."""


@contextmanager
def _starting(database: Database, assistant: str, *, now: Callable[[], datetime]) -> Iterator[None]:
    def refuse() -> None:
        raise _UnderWayError(
            f"An experiment of `{assistant}` is being started by another process.",
            hint=f"Look at it: `affinage experiment status {assistant}`.",
        )

    with hold(database, f"start {assistant}", now=now, on_wait=refuse):
        yield


def _insert(
    database: Database,
    *,
    assistant: str,
    candidate: str,
    rollout: RolloutSpec,
    name: str | None,
    layer: str,
    actor: str,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
) -> Experiment:
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
    return experiment


def _load_and_open(
    database: Database,
    experiment: Experiment,
    warm: Callable[[str], None] | None,
    *,
    patience: timedelta,
    actor: str,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
) -> Experiment:
    try:
        with database.read() as connection:
            _check_still_due(connection, experiment)
        if warm is not None:
            warm(experiment.candidate_variant)
    except Exception as error:
        if isinstance(error, AffinageError) and error.retryable and now() - experiment.created_at < patience:
            raise
        with database.write() as connection:
            inputs = {"reason": f"The candidate could not be loaded: {error}"}
            transition(connection, experiment, State.ABORTED, actor=actor, inputs=inputs, now=now(), new_id=new_id)
        raise
    reason = "The gateway loads and proves the candidate at its first use."
    if warm is not None:
        reason = "Every pod of its engine has the candidate; an engine without pods loads and proves it at its first use."
    with database.write() as connection:
        experiment = transition(connection, experiment, State.WARM, actor=actor, inputs={"reason": reason}, now=now(), new_id=new_id)
        opening = {"reason": f"The candidate serves a share of {experiment.share:g}."}
        return transition(connection, experiment, State.CANARY, actor=actor, inputs=opening, now=now(), new_id=new_id)


def _check_still_due(connection: Connection, experiment: Experiment) -> None:
    """What was checked at the start: between a kill and the resumption everything may have changed."""
    check_may_serve(connection, assistant=experiment.assistant, variant_id=experiment.candidate_variant)
    pointer = pointer_of(connection, experiment.assistant)
    if pointer is None or pointer.variant_id != experiment.control_variant:
        raise ConflictError(f"The champion of `{experiment.assistant}` was moved meanwhile.", hint="Start another experiment.")


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
