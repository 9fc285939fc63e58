"""What an experiment does next, given what the evidence says. Pure.

No data, data that stopped coming, and arms that do not appear as they were drawn all pause: the share stays as it is, and
nothing is promoted. Harm is acted on whatever else is the case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from affinage.experiments.replay import KEEP, PROMOTE, ROLLBACK, ReplayResult
from affinage.experiments.states import State

SILENCE = timedelta(days=3)
# Longer than a weekend without a rating: something is wrong with the feedback, not with the candidate.

_ENDS = {ROLLBACK: State.ROLLING_BACK, KEEP: State.KEPT_CONTROL}
# What is done even without fresh data: both leave the champion where it is.


@dataclass(frozen=True)
class Situation:
    """What is known when an experiment is looked at.

    Parameters
    ----------
    stage_rated, stage_elapsed
        First ratings at the present stage, and time since it began.
    silence
        Time since the last rating; None when there is none.
    overridden
        Whether somebody moved the champion by hand: the control no longer is what serves.
    """

    state: State
    stage: int
    shares: Sequence[float]
    result: ReplayResult
    stage_rated: int
    stage_elapsed: timedelta
    silence: timedelta | None
    overridden: bool = False
    min_units: int = 0
    min_days: float = 0.0


@dataclass(frozen=True)
class Step:
    """The transition to make, and why."""

    to_state: State
    stage: int
    reason: str


def next_step(now: Situation) -> Step | None:
    """The one transition that is due, or None."""
    if now.overridden:
        return Step(State.ABORTED, now.stage, "The champion was moved by hand, so the control no longer is what serves.")
    if now.result.decision in _ENDS:
        return Step(_ENDS[now.result.decision], now.stage, now.result.reason)
    trouble = _trouble(now)
    if trouble:
        return None if now.state is State.PAUSED else Step(State.PAUSED, now.stage, trouble)
    return _onward(now)


def _onward(now: Situation) -> Step | None:
    if now.state is State.PAUSED:
        return Step(State.RAMP if now.stage else State.CANARY, now.stage, "Data is coming in again.")
    if now.result.decision == PROMOTE:
        return Step(State.PROMOTING, now.stage, now.result.reason)
    if _may_ramp(now):
        share = now.shares[now.stage + 1]
        return Step(State.RAMP, now.stage + 1, f"The stage is complete and no harm is in sight; the share rises to {share:g}.")
    return None


def _trouble(now: Situation) -> str:
    if now.result.test("sample_ratio").crossed:
        return "The arms do not appear as often as they were drawn: routing or logging is broken."
    if now.silence is None:
        return "No data: nobody has rated an answer yet."
    if now.silence > SILENCE:
        return f"No data: the last rating is older than {SILENCE.days} days."
    return ""


def _may_ramp(now: Situation) -> bool:
    stages = len(now.shares)
    if now.stage + 1 >= stages:
        return False
    # Each stage carries its part of what the experiment needs in all.
    if now.stage_rated * stages < now.min_units or now.stage_elapsed * stages < timedelta(days=now.min_days):
        return False
    harms = (now.result.test(name) for name in ("harm", "bad", "preference_harm"))
    return all(test.log_e < test.threshold / 2 for test in harms)
