"""An experiment as people, programs and Prometheus see it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from affinage.experiments.assignment import CANDIDATE, CONTROL
from affinage.experiments.events import EXPOSURE, RATING, Event
from affinage.experiments.evidence import read_evidence
from affinage.experiments.replay import ReplayResult, replay
from affinage.experiments.repository import Experiment, list_decisions
from affinage.experiments.states import SPLITTING, State
from affinage.registry.variants import stored_variant
from affinage.telemetry import Metrics

_VERDICTS = frozenset({State.PROMOTING, State.ROLLING_BACK, State.KEPT_CONTROL, State.ABORTED})


def first_ratings(events: Iterable[Event]) -> list[Event]:
    """The confirmatory ratings: the first of each unit at each stage."""
    firsts: dict[tuple[str | None, int | None], Event] = {}
    for event in events:
        if event.kind == RATING:
            firsts.setdefault((event.unit, event.stage), event)
    return list(firsts.values())


def experiment_status(connection: Connection, experiment: Experiment, *, now: datetime) -> dict[str, Any]:
    """State, arms, tests and decision: the keys of `experiment status`.

    An experiment that has ended is shown as it was decided: neither what came in afterwards nor what was forgotten since
    changes its verdict.
    """
    events = read_evidence(connection, experiment.experiment_id)
    decisions = list_decisions(connection, experiment.experiment_id)
    end = experiment.ended_at or now
    counted = [event for event in events if event.at is not None and event.at <= end]
    served = [d.created_at for d in decisions if d.to_state is State.CANARY]
    recorded = [d.inputs["result"] for d in decisions if d.to_state in _VERDICTS and "result" in d.inputs]
    if recorded:
        found = recorded[-1]
    else:
        found = replay(counted, experiment.tests, started_at=served[0] if served else experiment.created_at, ended_at=end).as_dict()
    variants = {CONTROL: experiment.control_variant, CANDIDATE: experiment.candidate_variant}
    share = _candidate_share(experiment)
    shares = {CONTROL: 1 - share, CANDIDATE: share}
    return {
        "experiment": experiment.experiment_id,
        "assistant": experiment.assistant,
        "layer": experiment.layer,
        "state": str(experiment.state),
        "stage": experiment.stage,
        "version": experiment.version,
        "arms": [_arm(connection, name, variants[name], shares[name], counted) for name in (CONTROL, CANDIDATE)],
        **{key: found[key] for key in ("tests", "decision", "decided_at", "rated_units", "lift")},
        "reason": decisions[-1].inputs["reason"] if decisions else "",
        "created_at": experiment.created_at.isoformat(),
        "ended_at": None if experiment.ended_at is None else experiment.ended_at.isoformat(),
    }


def _arm(connection: Connection, name: str, variant_id: str, share: float, events: Sequence[Event]) -> dict[str, Any]:
    own = [event for event in events if event.candidate == (name == CANDIDATE)]
    ratings = first_ratings(own)
    return {
        "name": name,
        "variant": variant_id,
        "adapter": stored_variant(connection, variant_id).variant.adapter,
        "share": share,
        "exposures": sum(event.kind == EXPOSURE for event in own),
        "rated": len(ratings),
        "up": sum(event.value == 1 for event in ratings),
    }


def _candidate_share(experiment: Experiment) -> float:
    if experiment.state is State.PROMOTED:
        return 1.0
    return experiment.share if experiment.state in SPLITTING else 0.0


def set_metrics(metrics: Metrics, experiment: Experiment, result: ReplayResult | None) -> None:
    """Show the experiment's state, shares and evidence to Prometheus."""
    name = experiment.experiment_id
    for state in State:
        metrics.experiment_state.labels(name, str(state)).set(state is experiment.state)
    share = _candidate_share(experiment)
    metrics.experiment_traffic_weight.labels(name, CANDIDATE).set(share)
    metrics.experiment_traffic_weight.labels(name, CONTROL).set(1 - share)
    for test in result.tests if result is not None else ():
        metrics.experiment_log_e_value.labels(name, test.name).set(test.log_e)
    if result is not None and result.lift is not None:
        for bound, value in result.lift.as_dict().items():
            metrics.experiment_lift[bound].labels(name).set(value)


def lines_of(status: dict[str, Any]) -> list[str]:
    """The status for people."""
    head = f"{status['experiment']}  {status['state']}  stage {status['stage']}  decision: {status['decision']}  ({status['reason']})"
    arms = [
        f"  {arm['name']:9} {arm['share']:6.1%} of units  {arm['exposures']:5} exposed  {arm['rated']:5} rated  {arm['up']:5} up"
        f"  {arm['adapter'] or arm['variant']}"
        for arm in status["arms"]
    ]
    tests = [
        f"  {test['name']:18} log E {test['log_e']:+8.3f} of {test['threshold']:.3f}  p {test['p']:.4f}"
        for test in status["tests"]
        if test["max_log_e"] > 0 or test["name"] in ("benefit", "harm")
    ]
    lift = status["lift"]
    shown = [f"  lift {lift['estimate']:+.3f}, from {lift['lower']:+.3f} to {lift['upper']:+.3f} at any time"] if lift else []
    return [head, *arms, *shown, *tests]
