"""A start that was cut off is resumed or ended by itself; one that is only slow is left alone."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from affinage.database.engine import Database
from affinage.database.tables.registry import variant as variants
from affinage.errors import AffinageError, ConflictError, DependencyError, RefusedError
from affinage.experiments.repository import Experiment, get_experiment, list_decisions
from affinage.experiments.start import PATIENCE, resume_start
from affinage.experiments.states import State
from affinage.registry.moves import move_champion
from affinage.wiring import utc_now
from tests.unit.experiments.conftest import World

WITHIN_SECONDS = 20


class _Killed(BaseException):
    """Stands for the process dying."""


def killed(_variant: str) -> None:
    raise _Killed


def cut_off(world: World) -> None:
    with pytest.raises(_Killed):
        world.start(warm=killed)
    assert state(world) is State.LOADING


def state(world: World) -> State:
    with world.database.read() as connection:
        return get_experiment(connection, "tone-1").state


def reason(world: World) -> str:
    with world.database.read() as connection:
        return str(list_decisions(connection, "tone-1")[-1].inputs["reason"])


def resume(world: World, warm: Callable[[str], None] = lambda _: None) -> Experiment | None:
    return resume_start(world.database, experiment_id="tone-1", warm=warm, now=world.clock, new_id=world.new_id)


def test_a_start_that_was_cut_off_is_resumed_and_loads_the_candidate(world: World) -> None:
    cut_off(world)
    loaded: list[str] = []
    resumed = resume(world, loaded.append)
    assert resumed is not None
    assert (resumed.state, loaded) == (State.CANARY, [world.candidate])
    with world.database.read() as connection:
        path = [(str(d.to_state), d.actor) for d in list_decisions(connection, "tone-1")]
    assert path == [("VALIDATED", "test"), ("LOADING", "test"), ("WARM", "controller"), ("CANARY", "controller")]
    assert resume(world, killed) is None  # there is nothing to go on with


def test_a_start_that_is_slow_is_not_disturbed(world: World) -> None:
    loading, loaded = threading.Event(), threading.Event()

    def slowly(_variant: str) -> None:
        loading.set()
        assert loaded.wait(WITHIN_SECONDS)

    started: list[Experiment] = []
    thread = threading.Thread(target=lambda: started.append(world.start(warm=slowly)))
    thread.start()
    try:
        assert loading.wait(WITHIN_SECONDS)
        assert resume(world, killed) is None
        with pytest.raises(ConflictError, match="is being started"):
            world.start(name="tone-2")
    finally:
        loaded.set()
        thread.join()
    assert [one.state for one in started] == [State.CANARY]


def test_a_candidate_that_may_not_serve_any_more_ends_the_start_with_the_reason(world: World) -> None:
    cut_off(world)
    with world.database.write() as connection:
        connection.execute(update(variants).where(variants.c.variant_id == world.candidate).values(tainted=True))
    with pytest.raises(RefusedError):
        resume(world)
    assert state(world) is State.ABORTED
    assert "could not be loaded" in reason(world)


def test_a_champion_that_moved_since_ends_the_start(world: World) -> None:
    cut_off(world)
    with world.database.write() as connection:
        move_champion(
            connection, assistant="appels", to=world.candidate, actor="dana", reason="now", now=world.clock(), new_id=world.new_id
        )
    with pytest.raises(ConflictError, match="moved meanwhile"):
        resume(world)
    assert state(world) is State.ABORTED


def test_a_failure_that_may_pass_is_waited_for_and_not_for_ever(world: World) -> None:
    def no_pod(_variant: str) -> None:
        raise DependencyError("engine", "Pod 2 did not take it.")

    with pytest.raises(DependencyError):
        world.start(warm=no_pod, patience=PATIENCE)
    assert state(world) is State.LOADING
    with pytest.raises(DependencyError):
        resume(world, no_pod)
    assert state(world) is State.LOADING
    world.clock.advance(seconds=PATIENCE.total_seconds())
    with pytest.raises(DependencyError):
        resume(world, no_pod)
    assert state(world) is State.ABORTED
    assert "Pod 2 did not take it." in reason(world)


def test_an_operator_is_told_at_once_that_the_candidate_does_not_load(world: World) -> None:
    def no_pod(_variant: str) -> None:
        raise DependencyError("engine", "Pod 2 did not take it.")

    with pytest.raises(AffinageError):
        world.start(warm=no_pod)
    assert state(world) is State.ABORTED


def test_a_process_that_was_killed_while_loading_holds_nothing_up(world: World, database: Database, tmp_path: Path) -> None:
    """The real thing: SIGKILL in the middle of a load, and the next look resumes at once."""
    code = (
        "import itertools, sys, time\n"
        "from datetime import UTC, datetime\n"
        "from affinage.database.engine import Database\n"
        "from affinage.declarations.model import RolloutSpec\n"
        "from affinage.experiments.start import start_experiment\n"
        "ids = (f'child-{n}' for n in itertools.count())\n"
        "def warm(_):\n"
        "    print('loading', flush=True)\n"
        "    time.sleep(600)\n"
        f"start_experiment(Database('sqlite:///{tmp_path / 'affinage.db'}'), assistant='appels', candidate={world.candidate!r},\n"
        "    rollout=RolloutSpec(shares=(0.5,)), name='tone-1', now=lambda: datetime.now(UTC), new_id=lambda: next(ids), warm=warm)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "loading\n"
            world.clock.at = utc_now()  # the lease was written by a real clock
            assert resume(world) is None
        finally:
            child.kill()
    resumed = resume(world)
    assert resumed is not None
    assert resumed.state is State.CANARY
