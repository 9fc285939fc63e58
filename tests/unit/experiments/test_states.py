from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.experiments.states import DECIDING, LIVE, SPLITTING, TERMINAL, State, check_transition, successors


@given(data=st.data())
def test_no_walk_reaches_promoted_without_passing_promoting(data: st.DataObject) -> None:
    state, seen = State.DRAFT, [State.DRAFT]
    for _ in range(30):
        allowed = sorted(successors(state))
        if not allowed:
            break
        state = data.draw(st.sampled_from(allowed))
        seen.append(state)
    if State.PROMOTED in seen:
        assert seen[seen.index(State.PROMOTED) - 1] is State.PROMOTING
        assert State.CANARY in seen
    if State.ROLLED_BACK in seen:
        assert seen[seen.index(State.ROLLED_BACK) - 1] is State.ROLLING_BACK


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_nothing_follows_an_end(state: State) -> None:
    assert not successors(state)


@pytest.mark.parametrize("state", sorted(LIVE))
def test_every_live_state_can_be_ended(state: State) -> None:
    assert {State.ABORTED, State.KEPT_CONTROL, State.ROLLING_BACK} <= successors(state)


def test_only_what_users_see_can_be_paused() -> None:
    # Found by the walk above: DRAFT → PAUSED → RAMP → PROMOTING would have skipped validation.
    assert {state for state in State if State.PAUSED in successors(state)} == {State.CANARY, State.RAMP}


def test_a_pause_never_promotes() -> None:
    assert State.PROMOTING not in successors(State.PAUSED)


def test_every_state_has_its_place() -> None:
    assert set(State) == LIVE | TERMINAL | {State.PROMOTING, State.ROLLING_BACK}
    assert DECIDING < SPLITTING


def test_a_refused_transition_says_what_may_follow() -> None:
    with pytest.raises(ValueError, match="PROMOTED cannot follow CANARY"):
        check_transition(State.CANARY, State.PROMOTED)
