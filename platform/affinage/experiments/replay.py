"""From events to a decision: streaming, with no clock and no store. Pure.

The same code decides in operation and in replay, so a decision record can be checked by anybody who has the events.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from affinage.errors import ConfigurationError, UsageError
from affinage.experiments.eprocess import BadEventTest, PreferenceTest, RatingTest, RatioTest, p_value
from affinage.experiments.events import BAD, EXPOSURE, PREFERENCE, RATING, Event
from affinage.experiments.lift import Lift, LiftEstimate

PROMOTE, ROLLBACK, KEEP, CONTINUE = "promote", "rollback", "keep", "continue"


@dataclass(frozen=True)
class TestConfig:
    """When the evidence decides.

    Parameters
    ----------
    alpha, alpha_harm
        Largest probability of a false promotion, and of a false rollback by one test.
    alpha_ratio
        For the sample-ratio test; crossing it means that routing or logging is broken, so nothing is promoted.
    min_units, min_days
        Rated units in both arms together, and time since the start, before a promotion. They never delay a rollback.
    max_units, max_days
        Where an undecided experiment ends with the control kept. None: never.
    primary
        The kind whose benefit may promote: `rating` or `preference`. None: the kind of the first of them in the stream,
        so one α is spent once.
    """

    __test__ = False  # not a test class, whatever its name says to a collector

    alpha: float = 0.05
    alpha_harm: float = 0.10
    alpha_ratio: float = 0.001
    min_units: int = 0
    min_days: float = 0.0
    max_units: int | None = None
    max_days: float | None = None
    primary: str | None = None

    def __post_init__(self) -> None:
        for key in ("alpha", "alpha_harm", "alpha_ratio"):
            if not 0 < getattr(self, key) < 1:
                raise ValueError(f"`{key}` must lie between 0 and 1, not {getattr(self, key)!r}")
        if self.primary not in (None, RATING, PREFERENCE):
            raise ValueError(f"`primary` must be rating or preference, not {self.primary!r}")

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any], *, origin: str) -> TestConfig:
        """The configuration in `raw`, as JSON or YAML gave it; `origin` is named in errors."""
        unknown = sorted(set(raw) - set(cls.__dataclass_fields__))
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise ConfigurationError(f"{origin}: `{unknown[0]}` is not a known key.", hint=f"The keys are: {known}.")
        try:
            return cls(**raw)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{origin}: {error}.", hint="See docs/how-to/run-an-experiment.md.") from error

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        return asdict(self)


@dataclass(frozen=True)
class TestState:
    """One test: the evidence now, the threshold it is held against (both natural logarithms) and the anytime p-value."""

    __test__ = False

    name: str
    log_e: float
    max_log_e: float
    threshold: float

    @property
    def crossed(self) -> bool:
        """Whether the running maximum has reached the threshold."""
        return self.max_log_e >= self.threshold

    def as_dict(self) -> dict[str, Any]:
        """The keys of the command line."""
        return {
            "name": self.name,
            "log_e": self.log_e,
            "max_log_e": self.max_log_e,
            "threshold": self.threshold,
            "p": p_value(self.max_log_e),
        }


@dataclass(frozen=True)
class ReplayResult:
    """What the evidence says.

    `decision` is `promote`, `rollback`, `keep` (the configured maximum was reached) or `continue`; `decided_at` the
    sequence number of the event that decided, or None. `lift` is shown, never decided on. `reason` is one sentence.
    """

    decision: str
    decided_at: int | None
    tests: tuple[TestState, ...]
    rated_units: int
    lift: Lift | None
    reason: str

    def test(self, name: str) -> TestState:
        """The test called `name`."""
        return next(test for test in self.tests if test.name == name)

    def as_dict(self) -> dict[str, Any]:
        """The keys of the command line."""
        return {
            "decision": self.decision,
            "decided_at": self.decided_at,
            "tests": [test.as_dict() for test in self.tests],
            "rated_units": self.rated_units,
            "lift": None if self.lift is None else self.lift.as_dict(),
            "reason": self.reason,
        }


class Evidence:
    """Takes events one at a time and stops at the first decision.

    Parameters
    ----------
    config
        When the evidence decides.
    started_at
        Start of the experiment, for the limits in days; default: the first event's instant.
    """

    def __init__(self, config: TestConfig, *, started_at: datetime | None = None) -> None:
        self.config = config
        self.decision = CONTINUE
        self.decided_at: int | None = None
        self.reason = "The evidence does not decide yet."
        self._started_at = started_at
        self._last: Event | None = None
        self._ratings, self._bad, self._preferences = RatingTest(), BadEventTest(), PreferenceTest()
        self._sample_ratio, self._response_rate = RatioTest(), RatioTest()
        self._lift = LiftEstimate()
        self._primary = config.primary
        self._first: set[tuple[str, str, float | int]] = set()
        self._rated: set[str] = set()

    def add(self, event: Event) -> None:
        """Take one event into account; ignored once decided.

        Raises
        ------
        UsageError
            If the sequence number does not rise: the order of events is part of the evidence.
        """
        if self._last is not None and event.seq <= self._last.seq:
            raise UsageError(f"Event {event.seq} comes after event {self._last.seq}.", hint="Sort the events by `seq`.")
        self._last = event
        if self.decision != CONTINUE or event.unit is None:
            return
        if self._started_at is None:
            self._started_at = event.at
        self._count(event, event.unit)
        self._decide(event.seq, event.at)

    def _count(self, event: Event, unit: str) -> None:
        if event.kind == PREFERENCE:
            # Sides and pairs are drawn anew for each vote, so votes of one person are separate draws.
            self._primary = self._primary or PREFERENCE
            self._rated.add(unit)
            self._preferences.update(value=event.value)
            return
        if event.kind == BAD and event.value == 0:
            return
        # First of its kind per unit and stage; within a stage a unit's q does not change.
        key = (event.kind, unit, event.q if event.stage is None else event.stage)
        if key in self._first:
            return
        self._first.add(key)
        if event.kind == RATING:
            self._primary = self._primary or RATING
            self._rated.add(unit)
            self._lift.update(candidate=event.candidate, up=event.value == 1, q=event.q, rate=self._ratings.rate)
            self._ratings.update(candidate=event.candidate, up=event.value == 1, q=event.q)
            self._response_rate.update(candidate=event.candidate, q=event.q)
        elif event.kind == BAD:
            self._bad.update(candidate=event.candidate, q=event.q)
        elif event.kind == EXPOSURE:
            self._sample_ratio.update(candidate=event.candidate, q=event.q)

    def _decide(self, seq: int | None, at: datetime | None) -> None:
        harmful = [name for name, log_e in self._harms() if log_e >= -math.log(self.config.alpha_harm)]
        if harmful:
            self._end(ROLLBACK, seq, f"The {harmful[0]} test reached its threshold.")
        elif self._sample_ratio.max_log_e >= -math.log(self.config.alpha_ratio):
            self.reason = "The arms do not appear as often as they were drawn: routing or logging is broken."
        elif self._benefit() >= -math.log(self.config.alpha):
            waiting = self._waiting(at)
            if not waiting:
                self._end(PROMOTE, seq, "The benefit test reached its threshold.")
            else:
                self.reason = f"The benefit test reached its threshold; waiting for {waiting}."
        elif self._exhausted(at):
            self._end(KEEP, seq, "The configured maximum was reached without a decision.")

    def _end(self, decision: str, seq: int | None, reason: str) -> None:
        self.decision, self.decided_at, self.reason = decision, seq, reason

    def _harms(self) -> list[tuple[str, float]]:
        return [
            ("harm", self._ratings.harm.max_log_e),
            ("bad", self._bad.harm.max_log_e),
            ("preference_harm", self._preferences.max_harm_log_e),
        ]

    def _benefit(self) -> float:
        return self._preferences.max_benefit_log_e if self._primary == PREFERENCE else self._ratings.benefit.max_log_e

    def _elapsed(self, at: datetime | None) -> timedelta:
        if at is None or self._started_at is None:
            raise UsageError(
                "Limits in days need the instant of each event.", hint="Add `at` to the events, or leave out the limits in days."
            )
        return at - self._started_at

    def _waiting(self, at: datetime | None) -> str:
        missing = self.config.min_units - len(self._rated)
        if missing > 0:
            return f"{missing} more rated units"
        if self.config.min_days and self._elapsed(at) < timedelta(days=self.config.min_days):
            return f"{self.config.min_days:g} days since the start"
        return ""

    def _exhausted(self, at: datetime | None) -> bool:
        if self.config.max_units is not None and len(self._rated) >= self.config.max_units:
            return True
        return self.config.max_days is not None and self._elapsed(at) >= timedelta(days=self.config.max_days)

    def result(self, *, ended_at: datetime | None = None) -> ReplayResult:
        """What the events so far say; `ended_at` is when it is asked, for limits in days that run out without an event."""
        if self.decision == CONTINUE and ended_at is not None:
            self._decide(None if self._last is None else self._last.seq, ended_at)
        lift = self._lift.interval(alpha=self.config.alpha)
        return ReplayResult(self.decision, self.decided_at, self._tests(), len(self._rated), lift, self.reason)

    def _tests(self) -> tuple[TestState, ...]:
        promote, harm, ratio = (-math.log(a) for a in (self.config.alpha, self.config.alpha_harm, self.config.alpha_ratio))
        ratings, bad, votes = self._ratings, self._bad.harm, self._preferences
        return (
            TestState("benefit", ratings.benefit.log_e, ratings.benefit.max_log_e, promote),
            TestState("harm", ratings.harm.log_e, ratings.harm.max_log_e, harm),
            TestState("bad", bad.log_e, bad.max_log_e, harm),
            TestState("preference_benefit", votes.benefit_log_e, votes.max_benefit_log_e, promote),
            TestState("preference_harm", votes.harm_log_e, votes.max_harm_log_e, harm),
            TestState("sample_ratio", self._sample_ratio.log_e, self._sample_ratio.max_log_e, ratio),
            TestState("response_rate", self._response_rate.log_e, self._response_rate.max_log_e, ratio),
        )


def replay(
    events: Iterable[Event],
    config: TestConfig | None = None,
    *,
    started_at: datetime | None = None,
    ended_at: datetime | None = None,
) -> ReplayResult:
    """Decide from `events`, which must come in the order of their sequence numbers.

    Parameters
    ----------
    config
        Default: one candidate, α 0.05 and 0.10, no limits.
    started_at, ended_at
        Start of the experiment and when it is asked, for limits in days.
    """
    evidence = Evidence(config or TestConfig(), started_at=started_at)
    for event in events:
        evidence.add(event)
    return evidence.result(ended_at=ended_at)
