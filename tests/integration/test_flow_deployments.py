"""Deployments on a real Prefect server, run by a real worker process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from affinage.database.tables.index import index_run
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.processes import spawn, stop
from affinage.serving.prefect import PrefectServer
from affinage.settings import load_settings
from affinage.wiring import Affinage

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
WITHIN_SECONDS = 150


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with PrefectServer(tmp_path_factory.mktemp("prefect")) as started:
        started.wait()
        yield started


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: PrefectServer) -> Iterator[Affinage]:
    for name, value in {**server.environment, "AFFINAGE_HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "leave.md").write_text("# Leave\n\nLeave is asked for in writing.")
    opened = Affinage(load_settings())
    declare(opened, tmp_path, "handbook", "letters")
    yield opened
    opened.close()


def declare(app: Affinage, folder: Path, *sources: str) -> None:
    declared = {"sources": [{"name": name, "path": "docs", "schedule": "0 * * * *"} for name in sources]}
    with app.database.write() as connection:
        apply_declarations(connection, parse_declarations(declared, folder=folder, origin="test"), now=app.now(), prune=True)


def deploy() -> dict[str, Any]:
    done = subprocess.run([sys.executable, "flows/deploy.py", "--pool", "test"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def worker(server: PrefectServer, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    log = (tmp_path / "worker.log").open("wb")

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "test", "--type", "process"]
        started.append(spawn(command, environment=server.environment, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        stop(process, grace_seconds=15)
    log.close()


def test_a_server_is_started_once_on_its_home(server: PrefectServer) -> None:
    with pytest.raises(ValueError, match="before"):
        server.start()


def test_deploying_follows_the_declarations_and_can_be_repeated(app: Affinage, tmp_path: Path) -> None:
    first = deploy()
    assert first == {
        "deployments": ["evaluate/candidates", "index/changed sources", "index/handbook", "index/letters", "promote/evidence"],
        "removed": [],
    }
    assert deploy() == first
    declare(app, tmp_path, "handbook")
    assert deploy() == {
        "deployments": ["evaluate/candidates", "index/changed sources", "index/handbook", "promote/evidence"],
        "removed": ["letters"],
    }


def test_the_runs_of_an_outage_collapse_into_one_sync(app: Affinage, worker: Callable[[], subprocess.Popen[bytes]]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
    from prefect.states import Scheduled

    deploy()
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("index/handbook")
        (schedule,) = deployment.schedules
        assert (schedule.schedule.cron, deployment.parameters) == ("0 * * * *", {"sources": ["handbook"]})
        late = [
            client.create_flow_run_from_deployment(
                deployment.id, state=Scheduled(scheduled_time=datetime.now(UTC) - timedelta(hours=hours))
            ).id
            for hours in range(1, 13)
        ]
        worker()
        ours = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]))
        until = time.monotonic() + WITHIN_SECONDS
        states: dict[Any, str] = {}
        while time.monotonic() < until:
            states = {run.id: run.state.name for run in client.read_flow_runs(flow_run_filter=ours) if run.id in late and run.state}
            if set(states.values()) <= {"Completed", "Cancelled", "Failed", "Crashed"}:
                break
            time.sleep(0.5)
    assert sorted(states.values()) == ["Cancelled"] * 11 + ["Completed"]
    with app.database.read() as connection:
        runs = connection.execute(select(index_run.c.source, index_run.c.status)).all()
    assert [tuple(run) for run in runs] == [("handbook", "complete")]
