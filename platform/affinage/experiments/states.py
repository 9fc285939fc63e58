"""The life of an experiment: which state may follow which. Pure.

    DRAFT → VALIDATED → LOADING → WARM → (SHADOW →) CANARY → RAMP → PROMOTING → PROMOTED
    any live state → ROLLING_BACK → ROLLED_BACK | ABORTED | KEPT_CONTROL
    CANARY, RAMP ⇄ PAUSED

CANARY is the first declared share, RAMP every later one. PAUSED keeps the share it had; before users see the candidate
there is nothing to pause, and resuming from there would skip the steps before it.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where an experiment is."""

    DRAFT = "DRAFT"
    VALIDATED = "VALIDATED"
    LOADING = "LOADING"
    WARM = "WARM"
    SHADOW = "SHADOW"
    CANARY = "CANARY"
    RAMP = "RAMP"
    PAUSED = "PAUSED"
    PROMOTING = "PROMOTING"
    PROMOTED = "PROMOTED"
    ROLLING_BACK = "ROLLING_BACK"
    ROLLED_BACK = "ROLLED_BACK"
    ABORTED = "ABORTED"
    KEPT_CONTROL = "KEPT_CONTROL"


TERMINAL = frozenset({State.PROMOTED, State.ROLLED_BACK, State.ABORTED, State.KEPT_CONTROL})
LIVE = frozenset({State.DRAFT, State.VALIDATED, State.LOADING, State.WARM, State.SHADOW, State.CANARY, State.RAMP, State.PAUSED})
SPLITTING = frozenset({State.CANARY, State.RAMP, State.PAUSED, State.PROMOTING})
# States in which the gateway serves both arms. While promoting, candidates keep the candidate until all have it.
DECIDING = frozenset({State.CANARY, State.RAMP, State.PAUSED})

_EXITS = frozenset({State.ROLLING_BACK, State.ABORTED, State.KEPT_CONTROL})
_FORWARD: dict[State, frozenset[State]] = {
    State.DRAFT: frozenset({State.VALIDATED}),
    State.VALIDATED: frozenset({State.LOADING}),
    State.LOADING: frozenset({State.WARM}),
    State.WARM: frozenset({State.SHADOW, State.CANARY}),
    State.SHADOW: frozenset({State.CANARY}),
    State.CANARY: frozenset({State.RAMP, State.PROMOTING, State.PAUSED}),
    State.RAMP: frozenset({State.RAMP, State.PROMOTING, State.PAUSED}),
    State.PAUSED: frozenset({State.CANARY, State.RAMP}),
    # Once the champion is being moved the only ways out are to finish or to move it back.
    State.PROMOTING: frozenset({State.PROMOTED, State.ROLLING_BACK}),
    State.ROLLING_BACK: frozenset({State.ROLLED_BACK}),
}


def successors(state: State) -> frozenset[State]:
    """The states that may follow `state`."""
    allowed = _FORWARD.get(state, frozenset())
    if state not in LIVE:
        return allowed
    return allowed | _EXITS


def check_transition(before: State, after: State) -> None:
    """Refuse a transition that the life of an experiment does not have.

    Raises
    ------
    ValueError
        Naming both states and what may follow.
    """
    if after not in successors(before):
        allowed = ", ".join(sorted(successors(before))) or "nothing"
        raise ValueError(f"{after} cannot follow {before}; after it may come: {allowed}")
