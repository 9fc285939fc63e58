"""How large the candidate's effect is, for people to read. It decides nothing. Pure.

Each rating, weighted by the inverse of its known probability, estimates the lift without bias; their mean gets an interval
that is valid, asymptotically, at every moment. At small shares it is wide: that is the truth.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

MIN_RATINGS = 30
# Below this a variance estimate says little; no interval is shown.
TIGHTEST_AT = 500
# Ratings at which the interval is narrowest, a usual length of an experiment.


@dataclass(frozen=True)
class Lift:
    """The candidate's rate of ups minus the control's, with its anytime interval."""

    estimate: float
    lower: float
    upper: float

    def as_dict(self) -> dict[str, float]:
        """As JSON writes it."""
        return asdict(self)


class LiftEstimate:
    """Running mean and variance of the weighted ratings.

    References
    ----------
    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences",
    Annals of Statistics 2024.
    """

    def __init__(self) -> None:
        self._n = 0
        self._mean = 0.0
        self._squares = 0.0

    def update(self, *, candidate: bool, up: bool, q: float, rate: float) -> None:
        """Take one rating into account; `rate` is the satisfaction expected from the past, which only lowers the variance."""
        if not 0 < q < 1:
            return
        weighted = (up - rate) * (candidate - q) / (q * (1 - q))
        self._n += 1
        step = weighted - self._mean
        self._mean += step / self._n
        self._squares += step * (weighted - self._mean)

    def interval(self, *, alpha: float) -> Lift | None:
        """The estimate with an interval that covers at all times with probability 1 − alpha; None for too few ratings."""
        n = self._n
        if n < MIN_RATINGS or self._squares == 0:
            return None
        narrow = -2 * math.log(alpha)
        rho = (narrow + math.log(narrow) + 1) / TIGHTEST_AT
        spread = n * rho + 1
        half = math.sqrt(self._squares / n * 2 * spread / (n * n * rho) * math.log(math.sqrt(spread) / alpha))
        # A weighted mean of few ratings can leave the range of a difference of two shares.
        return Lift(*(min(1.0, max(-1.0, value)) for value in (self._mean, self._mean - half, self._mean + half)))
