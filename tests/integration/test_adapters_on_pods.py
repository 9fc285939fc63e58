"""Adapters on pods: there before the champion moves, by an alias, by evidence, by hand or back, and gone when nobody needs them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from affinage.cli.main import app as command
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import RolloutSpec, parse_declarations
from affinage.engines import pods
from affinage.engines.digest import base_digest
from affinage.engines.protocols import Message
from affinage.errors import DependencyError, RefusedError
from affinage.experiments.operate import stop_experiment
from affinage.experiments.repository import get_experiment, list_decisions
from affinage.experiments.start import PATIENCE, start_experiment
from affinage.experiments.states import State
from affinage.registry import moves
from affinage.registry.bases import describe_base, register_base
from affinage.registry.countersign import countersign
from affinage.registry.moves import pointer_of
from affinage.registry.variants import stored_variant
from affinage.residency.idle import GRACE
from affinage.settings import Settings
from affinage.tuning import golden
from affinage.wiring import Affinage
from tests.conftest import Clock
from tests.support.adapters import write_adapter, write_base
from tests.support.pods import Fleet, fleet_of
from tests.unit.experiments.conftest import World

pytestmark = pytest.mark.integration
ASSISTANT = "appels"


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without anything in it: making its forty tables takes seconds."""
    opened = Affinage(Settings(home=tmp_path_factory.mktemp("mlflow")))
    assert opened.registry.aliases("default", ASSISTANT) == {}
    opened.close()
    return opened.settings.home / "mlflow.db"


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with fleet_of(write_base(tmp_path / "base"), monkeypatch, pods=2) as running:
        yield running


@pytest.fixture
def app(fleet: Fleet, mlflow: Path, tmp_path: Path, clock: Clock, new_id: Callable[[], str]) -> Iterator[Affinage]:
    """An assistant on a pool of two pods, served by the bare base."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(mlflow, home / "mlflow.db")
    opened = Affinage(Settings(home=home, generators=(f"tiny={fleet.url}",)), now=clock, new_id=new_id)
    base = tmp_path / "base"
    register_base(opened.database, None, describe_base(base, name="tiny", digest=base_digest(base)), now=clock)
    declared = {"assistants": [{"name": ASSISTANT, "engine": "tiny", "sources": []}]}
    with opened.database.write() as connection:
        apply_declarations(connection, parse_declarations(declared, folder=tmp_path, origin="test"), now=clock())
    yield opened
    opened.close()


@pytest.fixture
def at_the_move(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> list[list[list[str]]]:
    """What each pod had at the instant of each move of the champion."""
    seen: list[list[list[str]]] = []
    swap = moves._swap

    def looking(*given: Any, **named: Any) -> None:
        seen.append(fleet.adapters())
        swap(*given, **named)

    monkeypatch.setattr(moves, "_swap", looking)
    return seen


def registered(app: Affinage, folder: Path, seed: int) -> tuple[str, str, str]:
    """Variant, version and adapter of files that differ by `seed`."""
    variant, version = app.register_adapter(write_adapter(folder / str(seed), seed=seed), assistant=ASSISTANT)
    return variant.variant_id, version, str(variant.adapter)


def champion(app: Affinage) -> str | None:
    with app.database.read() as connection:
        pointer = pointer_of(connection, ASSISTANT)
    return pointer.variant_id if pointer else None


def shown(app: Affinage, variant: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("AFFINAGE_HOME", str(app.settings.home))
    monkeypatch.setenv("AFFINAGE_GENERATORS", ",".join(app.settings.generators))
    done = CliRunner().invoke(command, ["adapter", "show", variant, "--json"])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def test_an_alias_moved_by_hand_waits_for_the_slowest_pod(
    app: Affinage, fleet: Fleet, at_the_move: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant, version, adapter = registered(app, tmp_path, 1)
    app.registry.set_alias("default", ASSISTANT, "champion", version)
    fleet.pods[1].busy = True
    for _ in range(2):  # it is tried again: the alias still asks for it
        with pytest.raises(DependencyError, match=r"1 of 2 pods .* did not take"):
            app.take_in_champions()
    assert (champion(app), at_the_move) == (None, [])
    seen = shown(app, variant, monkeypatch)
    assert f"{fleet.pods[1].address}:{fleet.pods[1].port}" in seen["held"]
    assert [pod["ready"] for pod in seen["pods"]] == [True, False]
    assert app.metrics.registry.get_sample_value("affinage_adapter_ready", {"adapter": adapter}) == 0
    fleet.pods[1].busy = False
    (move,) = app.take_in_champions()
    assert (champion(app), at_the_move) == (variant, [[[adapter], [adapter]]])
    assert move.variant_id == variant
    assert app.take_in_champions() == []
    seen = shown(app, variant, monkeypatch)
    assert (seen["held"], [pod["ready"] for pod in seen["pods"]]) == (None, [True, True])
    assert app.metrics.registry.get_sample_value("affinage_adapter_ready", {"adapter": adapter}) == 1


def test_a_pod_that_hangs_is_waited_for_and_one_that_is_gone_is_not(
    app: Affinage, fleet: Fleet, at_the_move: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant, _, adapter = registered(app, tmp_path, 1)
    assert app.base_digest("tiny")  # both pods have been seen
    monkeypatch.setattr(pods, "PROBE_SECONDS", 1.0)
    fleet.pods[1].stalled = True
    with pytest.raises(DependencyError, match="did not take"):
        app.promote_variant(variant, actor="dana", reason="now")
    assert champion(app) is None
    fleet.pods.pop().stop()
    app.promote_variant(variant, actor="dana", reason="now")
    assert (champion(app), at_the_move) == (variant, [[[adapter]]])


def test_a_pod_that_has_just_joined_gets_the_adapter_first(app: Affinage, fleet: Fleet, at_the_move: list[Any], tmp_path: Path) -> None:
    variant, _, adapter = registered(app, tmp_path, 1)
    sign(app, variant)
    app.warm_variant(variant)
    fleet.add()
    app.promote_variant(variant, actor="dana", reason="now")
    assert at_the_move == [[[adapter]] * 3]


def test_a_gateway_whose_picture_of_the_pods_is_older_than_the_move_looks_again(
    app: Affinage, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot bring adapters itself: its image has no client of the registry."""
    gateway = Affinage(app.settings)
    monkeypatch.setattr(gateway, "_bring", lambda *_: pytest.fail("the gateway asked the registry"))
    assert gateway.base_digest("tiny")  # it has seen the pods
    monkeypatch.setattr(pods, "REFRESH_SECONDS", 60.0)
    variant, _, adapter = registered(app, tmp_path, 1)
    app.promote_variant(variant, actor="dana", reason="now")
    with app.database.read() as connection:
        champion = stored_variant(connection, variant).variant
    gateway.load_adapter(gateway.served_generator("tiny"), champion)
    assert fleet.adapters() == [[adapter], [adapter]]
    gateway.close()


def test_a_pod_that_joins_and_holds_something_else_loses_the_adapter_and_the_others_serve_on(
    app: Affinage, fleet: Fleet, tmp_path: Path
) -> None:
    variant, _, adapter = registered(app, tmp_path, 1)
    sign(app, variant)
    with app.database.read() as connection:
        digest = stored_variant(connection, variant).variant.adapter_digest
    golden.save(app.blobs, str(digest), [golden.GoldenRow((Message("user", "a"),), "b", adapter=-0.1, base=-1.1)])
    app.promote_variant(variant, actor="dana", reason="now")
    assert fleet.adapters() == [[adapter], [adapter]]
    wrong = fleet.add()
    wrong.engine.log_probabilities = lambda *_, **__: [-5.0]  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match="do not agree"):
        app.warm_variant(variant)
    assert fleet.adapters() == [[adapter], [adapter], []]


def sign(app: Affinage, variant: str) -> None:
    with app.database.write() as connection:
        countersign(connection, variant_id=variant, gate_id="gate-1", now=app.now())


@pytest.fixture
def world(app: Affinage, clock: Clock, new_id: Callable[[], str], tmp_path: Path) -> World:
    """A champion on both pods, and a candidate."""
    control, _, _ = registered(app, tmp_path, 1)
    candidate, _, _ = registered(app, tmp_path, 2)
    app.promote_variant(control, actor="dana", reason="first")
    sign(app, candidate)
    return World(app.database, clock, new_id, control, candidate)


def start(app: Affinage, world: World, **more: Any) -> None:
    rollout = RolloutSpec(shares=(0.5,), min_units=0, min_days=0)
    start_experiment(
        app.database, assistant=ASSISTANT, candidate=world.candidate, rollout=rollout, name="tone-1", now=app.now, new_id=app.new_id,
        warm=app.warm_variant, **more,
    )  # fmt: skip


def experiment(app: Affinage) -> tuple[State, str]:
    with app.database.read() as connection:
        return get_experiment(connection, "tone-1").state, str(list_decisions(connection, "tone-1")[-1].inputs["reason"])


def test_the_evidence_promotes_when_every_pod_has_the_candidate(
    app: Affinage, fleet: Fleet, world: World, at_the_move: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    start(app, world)
    world.crowd(60, like="candidate")
    late = fleet.add()  # a pod that is ready and has nothing yet
    late.busy = True
    with pytest.raises(DependencyError, match="did not take"):
        app.look_at_experiments()
    assert (champion(app), at_the_move) == (world.control, [])
    # Users go on as they are, and the operator may still stop it.
    assert experiment(app)[0] is State.PAUSED or experiment(app)[0] is State.CANARY
    assert late.address in shown(app, world.candidate, monkeypatch)["held"]
    late.busy = False
    app.look_at_experiments()
    assert (experiment(app)[0], champion(app)) == (State.PROMOTED, world.candidate)
    with app.database.read() as connection:
        adapter = stored_variant(connection, world.candidate).variant.adapter
    assert all(adapter in pod for pod in at_the_move[0])


def test_an_experiment_waits_for_a_pod_and_is_given_up_with_the_reason(app: Affinage, fleet: Fleet, world: World, clock: Clock) -> None:
    fleet.pods[0].busy = True
    with pytest.raises(DependencyError, match="did not take"):
        start(app, world, patience=PATIENCE)
    with pytest.raises(DependencyError, match="did not take"):
        app.resume_starts()
    assert experiment(app)[0] is State.LOADING
    clock.advance(seconds=PATIENCE.total_seconds())
    with pytest.raises(DependencyError, match="did not take"):
        app.resume_starts()
    state, reason = experiment(app)
    assert state is State.ABORTED
    assert fleet.pods[0].address in reason


def test_a_start_that_waited_for_a_pod_goes_on_by_itself(app: Affinage, fleet: Fleet, world: World) -> None:
    fleet.pods[0].busy = True
    with pytest.raises(DependencyError):
        start(app, world, patience=PATIENCE)
    fleet.pods[0].busy = False
    app.resume_starts()
    assert experiment(app)[0] is State.CANARY


def test_a_rollback_brings_the_former_champion_to_every_pod_first(
    app: Affinage, fleet: Fleet, world: World, at_the_move: list[Any], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.promote_variant(world.candidate, actor="dana", reason="now")
    clock.advance(seconds=1)
    with app.database.read() as connection:
        former = stored_variant(connection, world.control).variant.adapter
    fleet.pods.pop(0).stop()
    fleet.add().busy = True  # started again without any adapter, and overloaded
    at_the_move.clear()
    with pytest.raises(DependencyError, match="cannot serve `appels` now"):
        app.rollback_variant(ASSISTANT, actor="dana", reason="worse")
    assert (champion(app), at_the_move) == (world.candidate, [])
    assert shown(app, world.control, monkeypatch)["held"] is not None
    fleet.pods[-1].busy = False
    app.rollback_variant(ASSISTANT, actor="dana", reason="worse")
    assert champion(app) == world.control
    assert all(former in pod for pod in at_the_move[0])


def test_a_rollback_to_an_engine_that_nothing_serves_is_refused(app: Affinage, fleet: Fleet, world: World, tmp_path: Path) -> None:
    app.promote_variant(world.candidate, actor="dana", reason="now")
    for pod in fleet.pods:
        pod.stop()
    fleet.pods.clear()
    with pytest.raises(DependencyError, match="cannot serve `appels` now"):
        app.rollback_variant(ASSISTANT, actor="dana", reason="worse")
    # Taken out of the settings, with its weights on another machine.
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    without = Affinage(Settings(home=app.settings.home), now=app.now, new_id=app.new_id)
    with pytest.raises(RefusedError) as refused:
        without.rollback_variant(ASSISTANT, actor="dana", reason="worse")
    assert "No pool serves its engine `tiny`" in refused.value.reasons[0]
    assert champion(app) == world.candidate
    without.close()


def wait(app: Affinage, clock: Clock) -> list[str]:
    """Two rounds of the controller, the grace between them; what went."""
    assert app.unload_idle() == []
    clock.advance(seconds=GRACE.total_seconds())
    return app.unload_idle()


def adapter_of(app: Affinage, variant: str) -> str:
    with app.database.read() as connection:
        return str(stored_variant(connection, variant).variant.adapter)


def test_adapters_that_nobody_needs_leave_the_pods_and_the_former_champion_stays(
    app: Affinage, fleet: Fleet, world: World, clock: Clock, tmp_path: Path
) -> None:
    older, _, _ = registered(app, tmp_path, 3)
    for variant in (older, world.control, world.candidate):
        clock.advance(seconds=1)
        app.promote_variant(variant, actor="dana", reason="next")
    for pod in fleet.pods:
        pod.take("somebody@12345678", write_adapter(tmp_path / "theirs", seed=9))  # another installation's: not ours to unload
    assert wait(app, clock) == [adapter_of(app, older)]
    stays = sorted([adapter_of(app, world.control), adapter_of(app, world.candidate), "somebody@12345678"])
    assert fleet.adapters() == [stays] * 2
    assert app.metrics.registry.get_sample_value("affinage_adapter_unloads_total") == 1
    assert app.metrics.registry.get_sample_value("affinage_adapter_ready", {"adapter": adapter_of(app, older)}) is None
    assert wait(app, clock) == []
    # Further back than the former champion it is brought again.
    app.rollback_variant(ASSISTANT, actor="dana", reason="worse")
    app.rollback_variant(ASSISTANT, actor="dana", reason="worse still")
    assert champion(app) == older
    assert all(adapter_of(app, older) in pod for pod in fleet.adapters())


def test_what_a_running_experiment_shows_stays_and_goes_after_its_end(app: Affinage, fleet: Fleet, world: World, clock: Clock) -> None:
    candidate = adapter_of(app, world.candidate)
    start(app, world)
    assert wait(app, clock) == []
    stop_experiment(app.database, experiment_id="tone-1", now=app.now, new_id=app.new_id, actor="dana")
    assert wait(app, clock) == [candidate]
    assert all(candidate not in pod for pod in fleet.adapters())


def test_an_adapter_that_is_being_loaded_by_another_move_is_left_alone(app: Affinage, fleet: Fleet, world: World, clock: Clock) -> None:
    candidate = adapter_of(app, world.candidate)
    app.warm_variant(world.candidate)
    assert app.unload_idle() == []
    clock.advance(seconds=GRACE.total_seconds())
    with app.database.read() as connection:
        stored = stored_variant(connection, world.candidate)
    with app.kept_ready(stored):  # a champion is about to move
        assert app.unload_idle() == []
        assert all(candidate in pod for pod in fleet.adapters())
    assert app.unload_idle() == [candidate]


def test_a_pool_that_is_away_holds_up_no_other(app: Affinage, fleet: Fleet, world: World, clock: Clock) -> None:
    for pod in fleet.pods:
        pod.stop()
    fleet.pods.clear()
    assert wait(app, clock) == []
