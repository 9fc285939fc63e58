"""Quantiles of Student's t distribution, from its closed form for whole degrees of freedom."""

from __future__ import annotations

import math


def t_probability(t: float, *, freedom: int) -> float:
    """P(T <= t) with `freedom` degrees of freedom.

    Raises
    ------
    ValueError
        If `freedom` is below 1.

    References
    ----------
    Abramowitz, Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
    """
    if freedom < 1:
        raise ValueError(f"degrees of freedom must be at least 1, not {freedom}")
    theta = math.atan(abs(t) / math.sqrt(freedom))
    squared = math.cos(theta) ** 2
    first = freedom % 2
    term, total = 1.0, 1.0
    for j in range(1, (freedom - 2 + first) // 2 if first else freedom // 2):
        term *= (2 * j - 1 + first) / (2 * j + first) * squared
        total += term
    if first:
        inside = 2 / math.pi * (theta + (math.sin(theta) * math.cos(theta) * total if freedom > 1 else 0.0))
    else:
        inside = math.sin(theta) * total
    return 0.5 + math.copysign(inside / 2, t)


def t_quantile(probability: float, *, freedom: int) -> float:
    """The t with P(T <= t) = `probability`, by bisection, to 1e-9.

    Raises
    ------
    ValueError
        If `probability` is not inside (0, 1).
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability must be inside (0, 1), not {probability}")
    high = 1.0
    while t_probability(high, freedom=freedom) < max(probability, 1 - probability):
        high *= 2
    low = -high
    while high - low > 1e-9 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, freedom=freedom) < probability else (low, middle)
    return (low + high) / 2
