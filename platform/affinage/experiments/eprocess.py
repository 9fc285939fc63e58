"""The sequential tests: evidence that may be read after every event, with no correction for looking. Pure.

Each test multiplies factors whose mean is 1 when the arm makes no difference, whatever the satisfaction rate does and
whatever share the candidate has. By Ville's inequality such a product reaches 1/α with probability at most α, ever. All
of it is in log space. Called by `replay`; `simulate` holds the same arithmetic for many runs at once.

References
----------
Lindon, Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LIFTS: Floats = np.arange(1, 21) / 80
# Lifts 1/80 to 20/80; harm mixes their negatives.
PRIOR_SD = 0.06
LIFT_WEIGHTS: Floats = np.exp(-(LIFTS**2) / (2 * PRIOR_SD**2))
LIFT_WEIGHTS = LIFT_WEIGHTS / LIFT_WEIGHTS.sum()

RATE_HALF_LIFE = 500
# Ratings. A cumulative mean fires falsely in 19-25 % of runs when the candidate changes how often people rate.
RATE_DECAY = 0.5 ** (1 / RATE_HALF_LIFE)
RATE_START, RATE_START_WEIGHT = 0.5, 20.0
RATE_FLOOR, RATE_CEILING = 0.001, 0.999

RISKS: Floats = 1.25 * (16 / 1.25) ** (np.arange(16) / 15)
# Relative risks from 1.25 to 16 in equal ratios, equally likely.

PREFERENCE_PRIOR = 10
RATIO_CONCENTRATION = 100.0


class Mixture:
    """The logarithm of a weighted mean of likelihood ratios, and its running maximum.

    The maximum is what decides: evidence that once sufficed is not taken back.
    """

    def __init__(self, weights: Floats) -> None:
        self._log_products = np.log(weights)
        self.log_e = 0.0
        self.max_log_e = 0.0

    def multiply(self, factors: Floats) -> None:
        """Take one event into account; one factor for each alternative."""
        self._log_products += np.log(factors)
        top = float(self._log_products.max())
        self.log_e = top + math.log(float(np.exp(self._log_products - top).sum()))
        self.max_log_e = max(self.max_log_e, self.log_e)


class RatingTest:
    """Whether the candidate pleases more (benefit) or less (harm). Label-conditional mixture e-processes.

    Given a rating, its arm is Bernoulli(q) if the arm has no effect; an effect shows as too many of one arm among the ups
    or the downs. The satisfaction rate is estimated from the past only, with exponential forgetting.
    """

    def __init__(self) -> None:
        self.benefit = Mixture(LIFT_WEIGHTS)
        self.harm = Mixture(LIFT_WEIGHTS)
        self._ups = RATE_START * RATE_START_WEIGHT
        self._weight = RATE_START_WEIGHT

    @property
    def rate(self) -> float:
        """The estimated satisfaction rate, from ratings so far."""
        return self._ups / self._weight

    def update(self, *, candidate: bool, up: bool, q: float) -> None:
        """Take one rating into account; a certain assignment (q of 0 or 1) changes the rate only."""
        if 0 < q < 1:
            self.benefit.multiply(rating_factors(self.rate, LIFTS, candidate=candidate, up=up, q=q))
            self.harm.multiply(rating_factors(self.rate, -LIFTS, candidate=candidate, up=up, q=q))
        self._ups = RATE_DECAY * self._ups + up
        self._weight = RATE_DECAY * self._weight + 1


def rating_factors(rate: float, lifts: Floats, *, candidate: bool, up: bool, q: float) -> Floats:
    """How much likelier this arm is, given the rating, for each lift than without effect; shape as `lifts`."""
    control_rate = np.clip(rate - q * lifts, RATE_FLOOR, RATE_CEILING)
    candidate_rate = np.clip(rate + (1 - q) * lifts, RATE_FLOOR, RATE_CEILING)
    mixed = q * candidate_rate + (1 - q) * control_rate
    own = candidate_rate if candidate else control_rate
    factors: Floats = own / mixed if up else (1 - own) / (1 - mixed)
    return factors


class BadEventTest:
    """Whether bad events (error, aborted stream, refusal) fall on the candidate more often than its share."""

    def __init__(self) -> None:
        self.harm = Mixture(np.full(len(RISKS), 1 / len(RISKS)))

    def update(self, *, candidate: bool, q: float) -> None:
        """Take one bad event into account."""
        if 0 < q < 1:
            self.harm.multiply((RISKS if candidate else np.ones_like(RISKS)) / (q * RISKS + 1 - q))


class PreferenceTest:
    """Whether one of two answers shown side by side is preferred. Beta-binomial, one-sided each way; ties are counted, not tested."""

    def __init__(self) -> None:
        self.wins = self.losses = self.ties = 0
        self.benefit_log_e = self.harm_log_e = 0.0
        self.max_benefit_log_e = self.max_harm_log_e = 0.0

    def update(self, *, value: float) -> None:
        """Take one vote into account: 1 candidate, 0 control, 0.5 tie."""
        if value == 0.5:
            self.ties += 1
            return
        self.wins += value == 1
        self.losses += value == 0
        self.benefit_log_e = preference_log_e(self.wins, self.losses)
        self.harm_log_e = preference_log_e(self.losses, self.wins)
        self.max_benefit_log_e = max(self.max_benefit_log_e, self.benefit_log_e)
        self.max_harm_log_e = max(self.max_harm_log_e, self.harm_log_e)


def preference_log_e(wins: int, losses: int) -> float:
    """Log e-value that the win rate is above one half, for a symmetric Beta prior cut at one half.

    2^n · B(a+W, a+L) / B(a, a) · 2 · P(Beta(a+W, a+L) > ½) with a = 10.
    """
    a, n = PREFERENCE_PRIOR, wins + losses
    two_sided = n * math.log(2) + _log_beta(a + wins, a + losses) - _log_beta(a, a)
    return two_sided + math.log(2) + _log_upper_half(a + wins, a + losses)


def _log_beta(x: float, y: float) -> float:
    return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)


def _log_upper_half(x: int, y: int) -> float:
    # P(Beta(x, y) > 1/2) = P(Binomial(x + y - 1, 1/2) <= x - 1) for whole x and y.
    n = x + y - 1
    log_factorials = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1)))))
    k = np.arange(x)
    terms = log_factorials[n] - log_factorials[k] - log_factorials[n - k] - n * math.log(2)
    top = float(terms.max())
    return min(0.0, top + math.log(float(np.exp(terms - top).sum())))


class RatioTest:
    """Whether the arms appear as often as they were drawn. Dirichlet-multinomial against the known probabilities.

    On exposures it finds broken routing or logging (sample-ratio mismatch); on first ratings, a candidate that changes how
    often people rate. Units drawn with different q are counted apart; the product of the parts is an e-process too.
    """

    def __init__(self) -> None:
        self.log_e = 0.0
        self.max_log_e = 0.0
        self._counts: dict[float, tuple[int, int]] = {}

    def update(self, *, candidate: bool, q: float) -> None:
        """Take one draw into account."""
        if not 0 < q < 1:
            return
        seen, candidates = self._counts.get(q, (0, 0))
        predicted = (RATIO_CONCENTRATION * q + candidates) / (RATIO_CONCENTRATION + seen)
        self.log_e += math.log(predicted / q) if candidate else math.log((1 - predicted) / (1 - q))
        self.max_log_e = max(self.max_log_e, self.log_e)
        self._counts[q] = (seen + 1, candidates + candidate)


def p_value(max_log_e: float) -> float:
    """The anytime-valid p-value, 1 / max E, at most 1."""
    return math.exp(-max(0.0, max_log_e))
