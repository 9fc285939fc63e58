"""A changed base is a second pool: users move to it by evidence, the old one goes, and no request is lost on the way."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from affinage.database.tables.answers import answer
from affinage.database.tables.registry import gate_result
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.engines.digest import base_digest
from affinage.experiments.repository import find_experiment
from affinage.experiments.states import SPLITTING, State
from affinage.identity.keys import create_key
from affinage.processes import stop
from affinage.registry.bases import describe_base, register_base
from affinage.registry.countersign import countersign
from affinage.registry.moves import pointer_of
from affinage.serving.controller import controlling
from affinage.settings import load_settings
from affinage.wiring import Affinage
from tests.support.process import Process
from tests.support.programs import wait_for
from tests.support.services import Service, serve
from tests.support.tiny_llama import write_tiny_adapter, write_tiny_llama

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
ASSISTANT, OLD, NEW = "calls", "old-base", "new-base"
USERS, CLIENTS = 120, 4
WITHIN_SECONDS = 120
# Of each step, on a machine that runs other tests.


class Crowd:
    """Users who ask without pause, one after the other, each with a key of their own; who likes the new base says so once."""

    def __init__(self, app: Affinage, url: str) -> None:
        self._app = app
        self._url = url
        self._turns = itertools.count()
        self._ended = threading.Event()
        self._rated: set[int] = set()
        with app.database.write() as connection:
            self._keys = [create_key(connection, user=f"user-{n}", now=app.now(), new_id=app.new_id)[1] for n in range(USERS)]
        self._threads = [threading.Thread(target=self._go_on) for _ in range(CLIENTS)]
        self.rating = False
        self.last: dict[int, str] = {}
        """Each user's last answer."""
        self.answered = 0
        self.lost: list[str] = []

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def go_round(self) -> set[str]:
        """Wait until everybody has asked once more; the bases that answered them last."""
        goal = self.answered + USERS + 2 * CLIENTS  # those under way were asked before
        until(lambda: self.lost or self.answered >= goal, "The users do not get answers")
        return {engine_of(self._app, answer_id) for answer_id in self.last.values()}

    def _go_on(self) -> None:
        while not self._ended.is_set():
            user = next(self._turns) % USERS
            try:
                answer_id = self.last[user] = self.ask(user, stream=user % 2 == 1)
                self.answered += 1
                if self.rating and user not in self._rated:
                    self._rated.add(user)
                    liked = engine_of(self._app, answer_id) == NEW
                    self._post(user, "/v1/feedback", {"answer_id": answer_id, "rating": "up" if liked else "down"})
            except (OSError, ValueError, AssertionError) as error:
                self.lost.append(f"{time.monotonic():.1f} user {user}: {error!r} {_body(error)}")

    def ask(self, user: int, *, stream: bool = False) -> str:
        """One question; the answer's id."""
        asked = {"model": ASSISTANT, "messages": [{"role": "user", "content": f"call of {user}"}], "stream": stream}
        body, headers = self._post(user, "/v1/chat/completions", asked)
        # A stream without its end mark is no answer.
        assert body.rstrip().endswith(b"data: [DONE]") if stream else json.loads(body)["choices"]
        return str(headers["x-affinage-answer-id"])

    def _post(self, user: int, path: str, body: dict[str, Any]) -> tuple[bytes, Any]:
        headers = {"Authorization": f"Bearer {self._keys[user]}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.read(), response.headers


def _body(error: BaseException) -> str:
    return error.read().decode()[:300] if isinstance(error, urllib.error.HTTPError) else ""


def engine_of(app: Affinage, answer_id: str) -> str:
    """The base whose pool gave the answer."""
    from affinage.registry.variants import get_variant

    with app.database.read() as connection:
        variant_id = connection.execute(select(answer.c.variant_id).where(answer.c.answer_id == answer_id)).scalar_one()
        return get_variant(connection, variant_id).engine


class Site:
    """Two pools of one pod each, and an installation that knows both."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.bases = {name: write_tiny_llama(folder / name, seed=seed) for seed, name in enumerate((OLD, NEW))}
        self.pools: dict[str, Service] = {}
        for name, base in self.bases.items():
            settings = {"AFFINAGE_GENERATOR_ENGINE": str(base), "AFFINAGE_GENERATOR_PRECISION": "float32"}
            self.pools[name] = stack.enter_context(serve("generator", folder / f"pod-{name}", wait=False, **settings))
        self.home = folder / "home"
        self.home.mkdir()
        self.knows(OLD, NEW)
        self.app = self.installation()
        stack.callback(self.app.close)

    def knows(self, *pools: str) -> None:
        """Let the settings name these pools, for processes that start from now on."""
        generators = [f"{name}={self.pools[name].url}" for name in pools]
        (self.home / "affinage.toml").write_text(f"generators = {json.dumps(generators)}\n", encoding="utf-8")

    def installation(self) -> Affinage:
        """The same installation in this process."""
        return Affinage(load_settings({"AFFINAGE_HOME": str(self.home), "AFFINAGE_THREADS": "1"}))

    def declare(self) -> None:
        """An assistant on the old base, and both bases."""
        for name, base in self.bases.items():
            register_base(self.app.database, None, describe_base(base, name=name, digest=base_digest(base)), now=self.app.now)
        rollout = {"shares": [0.5], "min_units": 0, "min_days": 0}
        assistant = {"name": ASSISTANT, "engine": OLD, "sources": [], "max_output_tokens": 4, "rollout": rollout}
        with self.app.database.write() as connection:
            apply_declarations(
                connection, parse_declarations({"assistants": [assistant]}, folder=self.folder, origin="t"), now=self.app.now()
            )

    def candidate(self) -> str:
        """What a data scientist does: an adapter for the new base, by a plain MLflow client; and the gate, which lets it pass."""
        from mlflow import MlflowClient

        model = f"affinage.default.{ASSISTANT}"
        client = MlflowClient(tracking_uri=self.app.registry.uri, registry_uri=self.app.registry.uri)
        adapter = write_tiny_adapter(self.bases[NEW], self.folder / "candidate", seed=4)
        run = client.create_run(client.create_experiment("notebook", artifact_location=str(self.folder / "runs")))
        client.log_artifacts(run.info.run_id, str(adapter), "adapter")
        made = client.create_model_version(model, f"runs:/{run.info.run_id}/adapter", run.info.run_id, tags={"affinage.engine": NEW})
        client.set_registered_model_alias(model, "candidate", made.version)
        (taken,) = self.app.take_in_candidates()
        gate = {"gate_id": "gate-1", "variant_id": taken.variant_id, "dataset_id": "ds", "passed": True, "reasons": [], "metrics": {}}
        with self.app.database.write() as connection:
            connection.execute(insert(gate_result).values(**gate, created_at=self.app.now()))
            countersign(connection, variant_id=taken.variant_id, gate_id="gate-1", now=self.app.now())
        return taken.variant_id

    def champion(self) -> str:
        """Variant that serves."""
        with self.app.database.read() as connection:
            pointer = pointer_of(connection, ASSISTANT)
        assert pointer is not None
        return pointer.variant_id

    def affinage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One call of the command."""
        command = [sys.executable, "-m", "affinage.cli.main", *arguments]
        environment = {**os.environ, "AFFINAGE_HOME": str(self.home)}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with ExitStack() as stack:
        made = Site(tmp_path, stack)
        made.declare()
        variant, _ = made.app.register_adapter(write_tiny_adapter(made.bases[OLD], tmp_path / "first", seed=3), assistant=ASSISTANT)
        for pool in made.pools.values():
            pool.wait()
        made.app.promote_variant(variant.variant_id, actor="test", reason="first")
        monkeypatch.setenv("AFFINAGE_HOME", str(made.home))
        yield made


def test_users_move_to_a_second_pool_by_evidence_and_the_first_one_goes(site: Site, tmp_path: Path) -> None:
    first = site.champion()
    with controlling(site.app.controller()), Process(site.home, "serve", "gateway") as gateway, Crowd(site.app, gateway.url) as crowd:
        assert crowd.go_round() == {OLD}
        candidate = site.candidate()  # from here on everything happens by itself
        until(lambda: crowd.lost or experiment_of(site) in SPLITTING, "The experiment does not start")
        assert crowd.go_round() == {OLD, NEW}
        # Each rates once, and what was rated before the experiment says nothing in it.
        crowd.rating = True
        until(lambda: crowd.lost or experiment_of(site) is State.PROMOTED, "The evidence does not decide")
        assert site.champion() == candidate
        crowd.go_round()
        assert crowd.go_round() == {NEW}
        stop(site.pools[OLD].child, grace_seconds=20)
        assert crowd.go_round() == {NEW}
        back = site.affinage("adapter", "rollback", ASSISTANT)
        assert back.returncode == 1
        assert f"Variant `{first}` cannot serve `{ASSISTANT}` now" in back.stderr
        assert f"No pod behind `{site.pools[OLD].url}` is ready" in back.stderr
        assert crowd.go_round() == {NEW}
    assert crowd.lost == []
    assert site.champion() == candidate
    site.knows(NEW)
    site.bases[OLD].rename(tmp_path / "archived")
    with Process(site.home, "serve", "gateway") as again, Crowd(site.app, again.url) as after:
        assert engine_of(site.app, after.ask(1)) == NEW
    assert after.lost == []
    back = site.affinage("adapter", "rollback", ASSISTANT)
    assert back.returncode == 3
    assert f"No pool serves its engine `{OLD}`" in back.stderr
    # Aliases are still followed, though the declaration names a base that is gone.
    without = site.installation()
    assert without.take_in_champions() == []
    without.close()


def experiment_of(site: Site) -> State | None:
    with site.app.database.read() as connection:
        found = find_experiment(connection, ASSISTANT)
    return found.state if found is not None else None


def until(true: Callable[[], object], what: str) -> None:
    wait_for(true, what=what, seconds=WITHIN_SECONDS)
