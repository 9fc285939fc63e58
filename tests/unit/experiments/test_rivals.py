"""Why the evidence is not the obvious test: the usual ones on the same streams of users who see no difference at all."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from affinage.experiments.scenarios import Streams, make_streams, resolve_scenario
from affinage.experiments.simulate import PROMOTE, decide

RUNS, LOOK_EVERY = 200, 50
Z_95 = 1.96
MIXING_SD = 0.06
# The same prior lift as the e-process has.

Verdicts = NDArray[np.bool_]


def looks(streams: Streams) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Difference of the arms' means and its variance at each look; shapes (runs, looks)."""
    arm, up = streams.candidate.astype(float), streams.up.astype(float)
    n1, u1 = np.cumsum(arm, axis=1), np.cumsum(arm * up, axis=1)
    n0, u0 = np.cumsum(1 - arm, axis=1), np.cumsum((1 - arm) * up, axis=1)
    at = slice(2 * LOOK_EVERY - 1, None, LOOK_EVERY)
    n1, u1, n0, u0 = (np.maximum(x[:, at], floor) for x, floor in ((n1, 1), (u1, 0), (n0, 1), (u0, 0)))
    pooled = np.clip((u1 + u0) / (n1 + n0), 0.01, 0.99)
    return u1 / n1 - u0 / n0, pooled * (1 - pooled) * (1 / n1 + 1 / n0)


def z_test(streams: Streams) -> Verdicts:
    difference, variance = looks(streams)
    return (difference / np.sqrt(variance) > Z_95).any(axis=1)


def mixture_sprt(streams: Streams) -> Verdicts:
    """Johari, Koomen, Pekelis, Walsh, "Always valid inference", 2022, with a normal prior on the lift."""
    difference, variance = looks(streams)
    wider = variance + MIXING_SD**2
    log_ratio = 0.5 * np.log(variance / wider) + difference**2 * MIXING_SD**2 / (2 * variance * wider)
    return ((log_ratio >= np.log(20)) & (difference > 0)).any(axis=1)


def e_process(streams: Streams) -> Verdicts:
    verdicts, _ = decide(streams, alpha=0.05, alpha_harm=0.10)
    return verdicts == PROMOTE


def rate(name: str, test: object, *, ratings: int = 3000) -> float:
    streams = make_streams(resolve_scenario(name), np.random.default_rng(21), runs=RUNS, ratings=ratings, effect=0.0)
    return float(test(streams).mean())  # type: ignore[operator]


@pytest.mark.parametrize("name", ["constant", "drift-with-ramp"])
def test_looking_often_at_a_z_test_promotes_far_too_often(name: str) -> None:
    assert rate(name, z_test) > 0.15


def test_an_always_valid_test_of_means_is_fooled_when_rate_and_share_rise_together() -> None:
    assert rate("constant", mixture_sprt) <= 0.096
    assert rate("drift-with-ramp", mixture_sprt) > 0.10


@pytest.mark.parametrize("name", ["constant", "drift-with-ramp"])
def test_the_label_conditional_test_is_not(name: str) -> None:
    assert rate(name, e_process) <= 0.096
