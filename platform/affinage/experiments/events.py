"""One line of evidence, as `experiment replay` reads it and decision records keep it. Pure.

`{seq, unit, arm, q, kind, value}`, and optionally `stage` and `at`. Kinds: `rating` (1 up, 0 down), `bad` (1: it
happened), `preference` (1 candidate, 0 control, 0.5 tie) and `exposure` (first use of an arm; no value).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from affinage.errors import UsageError
from affinage.experiments.assignment import CANDIDATE, CONTROL, MATCHED

RATING, BAD, PREFERENCE, EXPOSURE = "rating", "bad", "preference", "exposure"
_VALUES: Mapping[str, frozenset[float]] = {
    RATING: frozenset({0.0, 1.0}),
    BAD: frozenset({0.0, 1.0}),
    PREFERENCE: frozenset({0.0, 0.5, 1.0}),
}
_WORDS = {"up": 1.0, "down": 0.0}


@dataclass(frozen=True)
class Event:
    """Something a unit did, with the arm it was in and the probability it was put there.

    `unit` is None for anonymous use, which is left out. `stage` is None when the writer did not say: a change of q then
    marks a new stage.
    """

    seq: int
    unit: str | None
    arm: str
    q: float
    kind: str
    value: float
    stage: int | None = None
    at: datetime | None = None

    @property
    def candidate(self) -> bool:
        """Whether the candidate served; `matched` counts as control."""
        return self.arm == CANDIDATE

    def as_dict(self) -> dict[str, Any]:
        """The event as JSON writes it."""
        line = {"seq": self.seq, "unit": self.unit, "arm": self.arm, "q": self.q, "kind": self.kind, "value": self.value}
        if self.stage is not None:
            line["stage"] = self.stage
        if self.at is not None:
            line["at"] = self.at.isoformat()
        return line


def parse_event(raw: object) -> Event:
    """Check one decoded line.

    Raises
    ------
    ValueError
        Naming the key that is missing or wrong, and what was expected.
    """
    if not isinstance(raw, Mapping):
        raise ValueError("an event must be a JSON object")
    kind = _one_of(raw, "kind", (RATING, BAD, PREFERENCE, EXPOSURE))
    seq = _required(raw, "seq")
    if isinstance(seq, bool) or not isinstance(seq, int):
        raise ValueError(f"`seq` must be a whole number, not {seq!r}")
    unit = _required(raw, "unit")
    if unit is not None and not isinstance(unit, str):
        raise ValueError(f"`unit` must be a string or null, not {unit!r}")
    # Both arms answer a side-by-side question, so a preference needs neither arm nor q.
    arm = CANDIDATE if kind == PREFERENCE and raw.get("arm") is None else _one_of(raw, "arm", (CONTROL, CANDIDATE, MATCHED))
    q = 0.5 if kind == PREFERENCE and raw.get("q") is None else _probability(raw)
    if kind != PREFERENCE and q == (0.0 if arm == CANDIDATE else 1.0):
        raise ValueError(f"`arm` is {arm!r} although `q` says that this could not happen ({q:g})")
    return Event(seq, unit or None, arm, q, kind, _value(raw, kind), _stage(raw), _instant(raw))


def _required(raw: Mapping[str, Any], key: str) -> Any:
    if key not in raw:
        raise ValueError(f"`{key}` is missing")
    return raw[key]


def _one_of(raw: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    value = _required(raw, key)
    if value not in allowed:
        raise ValueError(f"`{key}` must be one of {', '.join(allowed)}, not {value!r}")
    return str(value)


def _number(value: object, key: str) -> float:
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"`{key}` must be a number, not {value!r}")
    return float(value)


def _probability(raw: Mapping[str, Any]) -> float:
    q = _required(raw, "q")
    if isinstance(q, bool) or not isinstance(q, int | float) or not 0 <= q <= 1:
        raise ValueError(f"`q` must be a probability, not {q!r}")
    return float(q)


def _value(raw: Mapping[str, Any], kind: str) -> float:
    if kind == EXPOSURE:
        return 1.0
    value = _number(_required(raw, "value"), "value")
    if value not in _VALUES[kind]:
        allowed = ", ".join(f"{v:g}" for v in sorted(_VALUES[kind]))
        raise ValueError(f"`value` of a {kind} must be one of {allowed}, not {value:g}")
    return value


def _stage(raw: Mapping[str, Any]) -> int | None:
    stage = raw.get("stage")
    if stage is not None and (isinstance(stage, bool) or not isinstance(stage, int) or stage < 0):
        raise ValueError(f"`stage` must be a whole number from 0, not {stage!r}")
    return stage


def _instant(raw: Mapping[str, Any]) -> datetime | None:
    at = raw.get("at")
    if at is None:
        return None
    try:
        instant = datetime.fromisoformat(at)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`at` must be an ISO 8601 instant, not {at!r}") from error
    if instant.tzinfo is None:
        raise ValueError(f"`at` needs a time zone: {at!r}")
    return instant


def read_events(lines: Iterable[str], *, origin: str) -> Iterator[Event]:
    """Events from JSON lines, in the file's order; blank lines are skipped.

    Raises
    ------
    UsageError
        Naming `origin` and the number of the first line that cannot be read.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield parse_event(json.loads(line))
        except ValueError as error:
            raise UsageError(
                f"{origin}, line {number}: {error}.",
                hint='An event is a JSON object a line: {"seq": 1, "unit": "u", "arm": "control", "q": 0.5, "kind": "rating", "value": 1}',
                line=number,
            ) from error


def in_order(events: Iterable[Event], *, origin: str) -> list[Event]:
    """Events by sequence number, an event delivered twice once.

    Raises
    ------
    UsageError
        If two different events have one sequence number: their order, which the evidence depends on, is not defined.
    """
    ordered: list[Event] = []
    for event in sorted(events, key=lambda e: e.seq):
        if not ordered or ordered[-1].seq != event.seq:
            ordered.append(event)
        elif ordered[-1] != event:
            raise UsageError(f"{origin}: two different events have the sequence number {event.seq}.", hint="Number the events again.")
    return ordered
