"""Thousands of experiments at once, on invented users: how often the evidence decides, and when.

The arithmetic of `eprocess` for many runs side by side (arrays of shape (runs, lifts), products instead of logarithms);
a test holds the two to the same numbers. The streams come from `scenarios`. Called by `experiment simulate`, tests and
`affinage experiment simulate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinage.experiments.eprocess import (
    LIFT_WEIGHTS,
    LIFTS,
    RATE_CEILING,
    RATE_DECAY,
    RATE_FLOOR,
    RATE_START,
    RATE_START_WEIGHT,
    RISKS,
    Floats,
)
from affinage.experiments.scenarios import Streams, make_streams, resolve_scenario

CHUNK_RUNS = 500
# Keeps the arrays of one chunk within the processor's cache and the streams within some 20 MB.
_SMALLEST = 1e-250
# Products below this carry no weight in the mixture; flushing them avoids slow denormal numbers.
_COMPACT_EVERY = 64

CONTINUE, PROMOTE, ROLLBACK = 0, 1, 2


@dataclass(frozen=True)
class Simulation:
    """How many of the runs ended how.

    `false_positive_rate` is the share of runs that promoted a candidate that is no better; None when it is better.
    `median_rated` is the median number of counted ratings at the decision, over the runs that decided.
    """

    scenario: str
    runs: int
    effect: float
    ratings: int
    promoted: int
    rolled_back: int
    median_rated: float | None

    @property
    def false_positive_rate(self) -> float | None:
        """Share of wrong promotions."""
        return self.promoted / self.runs if self.effect <= 0 else None

    def as_dict(self) -> dict[str, Any]:
        """The keys of the command line."""
        return {
            "scenario": self.scenario,
            "effect": self.effect,
            "ratings": self.ratings,
            "runs": self.runs,
            "promoted": self.promoted,
            "rolled_back": self.rolled_back,
            "false_positive_rate": self.false_positive_rate,
            "median_rated": self.median_rated,
        }


def simulate(
    scenario: str,
    *,
    runs: int,
    seed: int,
    effect: float = 0.0,
    ratings: int | None = None,
    alpha: float = 0.05,
    alpha_harm: float = 0.10,
) -> Simulation:
    """Run `runs` experiments of `scenario`, looked at after every event.

    Parameters
    ----------
    scenario
        A name of `scenarios.SCENARIOS`, or words that fit one of them only.
    effect
        What the candidate adds to the probability of an up.
    ratings
        Events in each run; default: the scenario's.

    Raises
    ------
    UsageError
        If there is no such scenario.
    """
    chosen = resolve_scenario(scenario)
    length = ratings or chosen.ratings
    sizes = [CHUNK_RUNS] * (runs // CHUNK_RUNS) + ([runs % CHUNK_RUNS] if runs % CHUNK_RUNS else [])
    verdicts, rated = [], []
    for size, child in zip(sizes, np.random.SeedSequence(seed).spawn(len(sizes)), strict=True):
        streams = make_streams(chosen, np.random.default_rng(child), runs=size, ratings=length, effect=effect)
        verdict, at = decide(streams, alpha=alpha, alpha_harm=alpha_harm)
        verdicts.append(verdict)
        rated.append(at)
    verdict, at = np.concatenate(verdicts), np.concatenate(rated)
    decided = verdict != CONTINUE
    return Simulation(
        scenario=chosen.name,
        runs=runs,
        effect=effect,
        ratings=length,
        promoted=int((verdict == PROMOTE).sum()),
        rolled_back=int((verdict == ROLLBACK).sum()),
        median_rated=float(np.median(at[decided])) if decided.any() else None,
    )


def decide(streams: Streams, *, alpha: float, alpha_harm: float) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Verdict of each run and the number of counted ratings at which it fell; shapes (runs,)."""
    runs, length = streams.q.shape
    verdict = np.zeros(runs, dtype=np.int8)
    at = np.zeros(runs, dtype=np.int64)
    active = np.arange(runs)
    state = _Runs(runs)
    for t in range(length):
        if t % _COMPACT_EVERY == 0:
            going = verdict[active] == CONTINUE
            active, state = active[going], state.keep(going)
            if not len(active):
                break
        state.rate_event(streams.q[active, t], streams.candidate[active, t], streams.up[active, t], streams.counted[active, t])
        if streams.bad is not None:
            state.bad_event(streams.q[active, t], streams.candidate[active, t], streams.bad[active, t])
        harmed, pleased = state.harm_e() >= 1 / alpha_harm, state.benefit_e() >= 1 / alpha
        new = (harmed | pleased) & (verdict[active] == CONTINUE)
        verdict[active[new]] = np.where(harmed[new], ROLLBACK, PROMOTE)
        at[active[new]] = state.rated[new]
    return verdict, at


class _Runs:
    """The state of the tests in each run: products of shape (runs, 2 x lifts), benefit first, then harm."""

    _lifts: Floats = np.concatenate([LIFTS, -LIFTS])[None, :]

    def __init__(self, runs: int) -> None:
        self.products: Floats = np.ones((runs, self._lifts.shape[1]))
        self.bad_products: Floats = np.ones((runs, len(RISKS)))
        self.ups: Floats = np.full(runs, RATE_START * RATE_START_WEIGHT)
        self.weight: Floats = np.full(runs, RATE_START_WEIGHT)
        self.rated = np.zeros(runs, dtype=np.int64)

    def keep(self, rows: NDArray[np.bool_]) -> _Runs:
        """Only these runs."""
        kept = _Runs(0)
        for name in ("products", "bad_products", "ups", "weight", "rated"):
            setattr(kept, name, getattr(self, name)[rows])
        return kept

    def rate_event(self, q: Floats, candidate: NDArray[np.bool_], up: NDArray[np.bool_], counted: NDArray[np.bool_]) -> None:
        """One rating in each run; where it is not counted nothing changes."""
        rate = self.ups / self.weight
        evidence = counted & (q > 0) & (q < 1)
        # Where no rate is clipped, the mixed rate is the rate itself, and a factor is 1 + lift times one number for each run.
        slope = np.where(up, 1 / rate, -1 / (1 - rate)) * (candidate - q)
        factors = 1 + np.where(evidence, slope, 0.0)[:, None] * self._lifts
        reach = LIFTS[-1] * np.maximum(q, 1 - q)
        clipped = evidence & ((rate - reach < RATE_FLOOR) | (rate + reach > RATE_CEILING))
        if clipped.any():
            factors[clipped] = self._clipped_factors(rate[clipped], q[clipped], candidate[clipped], up[clipped])
        self.products *= factors
        np.maximum(self.products, _SMALLEST, out=self.products)
        self.ups = np.where(counted, RATE_DECAY * self.ups + up, self.ups)
        self.weight = np.where(counted, RATE_DECAY * self.weight + 1, self.weight)
        self.rated += counted

    def _clipped_factors(self, rate: Floats, q: Floats, candidate: NDArray[np.bool_], up: NDArray[np.bool_]) -> Floats:
        share = q[:, None]
        control_rate = np.clip(rate[:, None] - share * self._lifts, RATE_FLOOR, RATE_CEILING)
        candidate_rate = np.clip(rate[:, None] + (1 - share) * self._lifts, RATE_FLOOR, RATE_CEILING)
        mixed = share * candidate_rate + (1 - share) * control_rate
        own = np.where(candidate[:, None], candidate_rate, control_rate)
        factors: Floats = np.where(up[:, None], own / mixed, (1 - own) / (1 - mixed))
        return factors

    def bad_event(self, q: Floats, candidate: NDArray[np.bool_], bad: NDArray[np.bool_]) -> None:
        """At most one bad event in each run."""
        if bad.any():
            share = q[:, None]
            factors = np.where(candidate[:, None], RISKS[None, :], 1.0) / (share * RISKS[None, :] + 1 - share)
            np.multiply(self.bad_products, factors, out=self.bad_products, where=bad[:, None])

    def benefit_e(self) -> Floats:
        """E-values of the benefit test, shape (runs,)."""
        e: Floats = self.products[:, : len(LIFTS)] @ LIFT_WEIGHTS
        return e

    def harm_e(self) -> Floats:
        """The larger of the e-values of harm in ratings and of bad events, shape (runs,)."""
        e: Floats = np.maximum(self.products[:, len(LIFTS) :] @ LIFT_WEIGHTS, self.bad_products.mean(axis=1))
        return e
