"""A real controller process: what is set in MLflow comes true by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.engines.digest import base_digest
from affinage.registry.bases import describe_base, register_base
from affinage.registry.moves import pointer_of
from affinage.settings import Settings
from affinage.wiring import Affinage
from tests.support.adapters import write_adapter, write_base

pytestmark = pytest.mark.integration
WITHIN_SECONDS = 90
# A cold start on a machine that runs other tests.


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Affinage]:
    """Assistant `calls` on a tiny base, with one registered adapter."""
    opened = Affinage(Settings(home=tmp_path / "home"))
    folder = write_base(tmp_path / "base")
    register_base(opened.database, None, describe_base(folder, name="tiny", digest=base_digest(folder)), now=opened.now)
    declared = {"assistants": [{"name": "calls", "task": "extract", "engine": "tiny", "sources": []}]}
    with opened.database.write() as connection:
        apply_declarations(connection, parse_declarations(declared, folder=tmp_path, origin="test"), now=opened.now())
    yield opened
    opened.close()


def start(app: Affinage, folder: Path, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "affinage.cli.main", "serve", "controller", "--metrics-port", "0"]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, env={**os.environ, "AFFINAGE_HOME": str(app.state)}, stdout=log, stderr=log)


def wait_until(true: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> float:
    began = time.monotonic()
    while not true():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() - began < WITHIN_SECONDS, log.read_text()
        time.sleep(0.05)
    return time.monotonic() - began


def test_a_champion_set_in_mlflow_serves_and_a_killed_leader_is_replaced(app: Affinage, tmp_path: Path) -> None:
    first_variant, first_version = app.register_adapter(write_adapter(tmp_path / "one"), assistant="calls")
    second_variant, second_version = app.register_adapter(write_adapter(tmp_path / "two", seed=2), assistant="calls")

    def serves(variant_id: str) -> bool:
        with app.database.read() as connection:
            pointer = pointer_of(connection, "calls")
        return pointer is not None and pointer.variant_id == variant_id

    leader = start(app, tmp_path, "leader")
    log = tmp_path / "leader.log"
    try:
        wait_until(lambda: b"metrics are on" in log.read_bytes(), leader, log)
        url = log.read_text().split("metrics are on ")[1].split(".\n")[0]
        app.registry.set_alias("default", "calls", "champion", first_version)
        wait_until(lambda: serves(first_variant.variant_id), leader, log)
        with urllib.request.urlopen(f"{url}/health/ready", timeout=10) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            assert b"affinage_controller_leader 1.0" in answer.read()

        follower = start(app, tmp_path, "follower")
        try:
            leader.send_signal(signal.SIGKILL)
            leader.wait()
            app.registry.set_alias("default", "calls", "champion", second_version)
            wait_until(lambda: serves(second_variant.variant_id), follower, tmp_path / "follower.log")
            follower.send_signal(signal.SIGTERM)
            assert follower.wait(timeout=30) == 0
        finally:
            follower.kill()
            follower.wait()
    finally:
        leader.kill()
        leader.wait()
