"""Invented users for the simulations: who rates when, in which arm, and what they think. Random numbers are passed in.

Each scenario breaks something that a simpler test relies on. In all of them the candidate adds `effect` to the
probability of an up; 0 is the null.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affinage.errors import UsageError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

CLOSED_SHARES = (0.01, 0.05, 0.25, 0.5)
CLOSED_UNITS = 400
RESPONSE_RATIO = 1.3


@dataclass(frozen=True)
class Streams:
    """Ratings of many runs in the order in which they arrive; all of shape (runs, ratings).

    `counted` is False for ratings that are not the first of their unit and stage, and for padding. `bad` marks a bad
    event beside the rating.
    """

    q: Floats
    candidate: Flags
    up: Flags
    counted: Flags
    bad: Flags | None = None


@dataclass(frozen=True)
class Scenario:
    """A way in which ratings come about, and how many make a run by default."""

    name: str
    make: Callable[[np.random.Generator, int, int, float], Streams]
    ratings: int = 3000


def _streams(rng: np.random.Generator, q: Floats, rate: Floats, effect: float) -> Streams:
    candidate = rng.random(q.shape) < q
    up = rng.random(q.shape) < np.clip(rate + effect * candidate, 0, 1)
    return Streams(q, candidate, up, np.ones(q.shape, dtype=bool))


def _drift(length: int) -> Floats:
    return np.linspace(0.6, 0.8, length)


def _ramp(length: int) -> Floats:
    return np.linspace(0.05, 0.5, length)


def _wide(values: Floats | float, runs: int, length: int) -> Floats:
    return np.broadcast_to(np.asarray(values, dtype=np.float64), (runs, length))


def _constant(rng: np.random.Generator, runs: int, length: int, effect: float) -> Streams:
    return _streams(rng, _wide(0.5, runs, length), _wide(0.7, runs, length), effect)


def _drifting(rng: np.random.Generator, runs: int, length: int, effect: float) -> Streams:
    return _streams(rng, _wide(0.5, runs, length), _wide(_drift(length), runs, length), effect)


def _daily_cycle(rng: np.random.Generator, runs: int, length: int, effect: float) -> Streams:
    """200 ratings a day; people are harder to please in the evening, and the share steps up on the way."""
    rate = 0.7 + 0.15 * np.sin(2 * np.pi * np.arange(length) / 200)
    steps = np.array([0.05, 0.25, 0.5])[np.minimum(np.arange(length) * 3 // length, 2)]
    return _streams(rng, _wide(steps, runs, length), _wide(rate, runs, length), effect)


def _ramping(rng: np.random.Generator, runs: int, length: int, effect: float) -> Streams:
    return _streams(rng, _wide(_ramp(length), runs, length), _wide(0.7, runs, length), effect)


def _drift_with_ramp(rng: np.random.Generator, runs: int, length: int, effect: float) -> Streams:
    return _streams(rng, _wide(_ramp(length), runs, length), _wide(_drift(length), runs, length), effect)


def _one_percent(rng: np.random.Generator, runs: int, length: int, effect: float) -> Streams:
    return _streams(rng, _wide(0.01, runs, length), _wide(0.7, runs, length), effect)


def _rare_event(rng: np.random.Generator, runs: int, length: int, effect: float) -> Streams:
    """Downs in one of 200 ratings, and bad events as rare; both follow the candidate's effect."""
    rated = _streams(rng, _wide(0.1, runs, length), _wide(0.995, runs, length), effect)
    bad = rng.random(rated.q.shape) < np.clip(0.005 - effect * rated.candidate, 0, 1)
    return Streams(rated.q, rated.candidate, rated.up, rated.counted, bad)


def _clustered(rng: np.random.Generator, runs: int, length: int, effect: float) -> Streams:
    """Few people give most ratings, each with a taste and an arm of their own; the first rating of each counts."""
    units = max(1, length // 4)
    activity = rng.pareto(1.2, size=(runs, units)) + 0.1
    taste = rng.beta(4, 1.5, size=(runs, units))
    arm = rng.random((runs, units)) < 0.5
    edges = np.cumsum(activity, axis=1)
    drawn = rng.random((runs, length)) * edges[:, -1:]
    who = np.stack([np.searchsorted(edges[run], drawn[run]) for run in range(runs)]).clip(max=units - 1)
    candidate = np.take_along_axis(arm, who, axis=1)
    up = rng.random((runs, length)) < np.clip(np.take_along_axis(taste, who, axis=1) + effect * candidate, 0, 1)
    first = np.zeros((runs, length), dtype=bool)
    for run in range(runs):
        first[run, np.unique(who[run], return_index=True)[1]] = True
    return Streams(_wide(0.5, runs, length), candidate, up, first)


def _changed_response_rate(rng: np.random.Generator, runs: int, length: int, effect: float) -> Streams:
    """The candidate makes people rate 1.3 times as often, under drift and ramp: its arm is over-represented."""
    q = _wide(_ramp(length), runs, length)
    seen = RESPONSE_RATIO * q / (RESPONSE_RATIO * q + 1 - q)
    rated = _streams(rng, seen, _wide(_drift(length), runs, length), effect)
    return Streams(q, rated.candidate, rated.up, rated.counted)


def _delayed(rng: np.random.Generator, runs: int, length: int, effect: float) -> Streams:
    """Ratings arrive long after the answer, downs sooner than ups, while rate and share move on."""
    given = _drift_with_ramp(rng, runs, length, effect)
    delay = rng.exponential(np.where(given.up, length / 5, length / 20))
    arrival = np.argsort(np.arange(length) + delay, axis=1, kind="stable")
    q = np.take_along_axis(given.q, arrival, axis=1)
    return Streams(q, np.take_along_axis(given.candidate, arrival, axis=1), np.take_along_axis(given.up, arrival, axis=1), given.counted)


def _closed_population(rng: np.random.Generator, runs: int, length: int, effect: float) -> Streams:
    """The same people at each stage of a ramp; some are away at some stages. q is conditional on their earlier arms."""
    stages = len(CLOSED_SHARES)
    units = max(1, length // stages)
    taste = rng.beta(4, 1.5, size=(runs, units))
    u = rng.random((runs, units))
    known_share = np.zeros((runs, units))  # the largest share at which the unit was seen as control
    parts = []
    for stage, share in enumerate(CLOSED_SHARES):
        present = rng.random((runs, units)) < 0.8
        candidate = u < share
        in_candidate = u < known_share
        q = np.where(in_candidate, 1.0, (share - known_share) / (1 - known_share))
        rate = taste + 0.1 * stage / stages + effect * candidate
        up = rng.random((runs, units)) < np.clip(rate, 0, 1)
        order = rng.permuted(np.broadcast_to(np.arange(units), (runs, units)), axis=1)
        parts.append([np.take_along_axis(a, order, axis=1) for a in (q, candidate, up, present)])
        known_share = np.where(present, share, known_share)
    q_parts, candidates, ups, presents = zip(*parts, strict=True)
    flags = [np.concatenate(columns, axis=1).astype(bool) for columns in (candidates, ups, presents)]
    return Streams(np.concatenate(q_parts, axis=1).astype(np.float64), flags[0], flags[1], flags[2])


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("constant", _constant),
    Scenario("drift", _drifting),
    Scenario("daily-cycle", _daily_cycle),
    Scenario("ramp", _ramping),
    Scenario("drift-with-ramp", _drift_with_ramp),
    Scenario("one-percent-share", _one_percent),
    Scenario("rare-event", _rare_event),
    Scenario("clustered-raters", _clustered),
    Scenario("changed-response-rate", _changed_response_rate),
    Scenario("delayed-feedback", _delayed),
    Scenario("closed-population", _closed_population, ratings=CLOSED_UNITS * len(CLOSED_SHARES)),
)


def resolve_scenario(name: str) -> Scenario:
    """The scenario called `name`, or the only one that has all its words (`daily`, `drift ramp`, `1 % share`)."""
    words = set(re.findall(r"[a-z]+", re.sub(r"\b1\b|\b1(?=p)", "one ", name.lower()).replace("%", " percent ")))
    exact = [s for s in SCENARIOS if words == set(s.name.split("-"))]
    fitting = exact or [s for s in SCENARIOS if words and words <= set(s.name.split("-"))]
    if len(fitting) != 1:
        known = ", ".join(scenario.name for scenario in SCENARIOS)
        raise UsageError(f"There is no scenario `{name}`.", hint=f"The scenarios are: {known}.")
    return fitting[0]


def make_streams(scenario: Scenario, rng: np.random.Generator, *, runs: int, ratings: int, effect: float) -> Streams:
    """Streams of `runs` experiments."""
    return scenario.make(rng, runs, ratings, effect)
