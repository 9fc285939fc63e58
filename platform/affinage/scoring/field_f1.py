"""F1 over the fields of a structured answer: how much of it is right, when not all of it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from affinage.scoring.exact_match import same_text


def field_f1(answer: Any, target: Any) -> float:
    """Harmonic mean of precision and recall over (path, value) pairs of two JSON values.

    A field that is `null` counts as absent on either side: leaving it out and writing `null` are the same answer, and an
    invented value costs precision. Elements of a list are compared without regard to order.

    Returns
    -------
    float
        In [0, 1]; 1.0 when both sides are empty of values, 0.0 when `answer` is no object (unreadable JSON).
    """
    if not isinstance(answer, dict) or not isinstance(target, dict):
        return 0.0
    said, wanted = Counter(_leaves(answer)), Counter(_leaves(target))
    if not said and not wanted:
        return 1.0
    right = sum((said & wanted).values())
    return 2 * right / (sum(said.values()) + sum(wanted.values()))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, f"{path}[]")
    elif value is not None:
        # The type is part of the pair, since Python says True == 1; 1 and 1.0 are one number in JSON.
        kind = "boolean" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "string"
        yield path, kind, same_text(value) if isinstance(value, str) else value
