"""The registry's client against a real MLflow server that checks by which name it is called."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from affinage.errors import DependencyError
from affinage.processes import stop
from affinage.registry.mlflow import MlflowRegistry
from tests.support.programs import free_ports, started, wait_for

pytestmark = pytest.mark.integration
START_SECONDS = 120
# The server would start executors for jobs, too, in a gigabyte of memory.
QUICK = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@contextmanager
def server(folder: Path, *, port: int, allowed_hosts: str) -> Iterator[None]:
    """An MLflow server on loopback, which keeps what it knows in `folder`."""
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--allowed-hosts", allowed_hosts, "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with started("mlflow", command, folder=folder) as running:
        try:
            # MLflow's health answers whatever name it is called by, as a kubelet's probe needs.
            wait_for(lambda: healthy(f"http://localhost:{port}"), what="MLflow is not up", seconds=START_SECONDS, servers=[running])
            yield
        finally:
            stop(running.process)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def follow(url: str, home: Path) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code and answer of a command that asks the registry about a declared assistant."""
    environment = {**os.environ, "AFFINAGE_HOME": str(home), "AFFINAGE_REGISTRY_URL": url}
    declared = home / "declared.yaml"
    home.mkdir(exist_ok=True)
    declared.write_text(yaml.safe_dump({"assistants": [{"name": "help", "task": "extract", "engine": "package:smollm2", "sources": []}]}))
    for verb in (["apply", "-f", str(declared)], ["adapter", "follow"]):
        command = [sys.executable, "-m", "affinage.cli.main", *verb, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert verb[0] != "apply" or done.returncode == 0, done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_server_that_does_not_know_the_name_says_so_with_the_option_that_helps(folder: Path) -> None:
    (port,) = free_ports(1)
    registry = MlflowRegistry(f"http://user:secret@localhost:{port}", None)
    # The name alone is not enough: MLflow compares it with the port.
    with server(folder, port=port, allowed_hosts="127.0.0.1:*,localhost"):
        with pytest.raises(DependencyError) as refused:
            registry.versions("acme", "help")
        assert f"does not let itself be called `localhost:{port}`" in refused.value.message
        assert "secret" not in str(refused.value)
        assert not refused.value.retryable
        code, answer = follow(f"http://localhost:{port}", folder / "home")
        assert (code, answer["error"]["type"]) == (1, "DependencyError")
        assert answer["error"]["hint"] == refused.value.hint
        assert MlflowRegistry(f"http://127.0.0.1:{port}", None).versions("acme", "help") == [], "by a name that it knows"

    advised = re.search(r"`--allowed-hosts (\S+)`", refused.value.hint)
    assert advised
    with server(folder, port=port, allowed_hosts=advised[1]):
        spec = {"kind": "extractive"}
        made = registry.register_variant(
            organisation="acme", assistant="help", variant_id="v1", spec=spec, adapter=None, tags={"origin": "trained"}
        )
        registry.set_alias("acme", "help", "champion", made.version)
        assert registry.aliases("acme", "help") == {"champion": made.version}
        # The server keeps the files, too: they are asked for by the same name.
        held = registry.download("acme", "help", made.version, folder / "copy")
        assert json.loads((held / "variant.json").read_text()) == spec
        assert follow(f"http://localhost:{port}", folder / "home")[0] == 0

        # A page of another origin may not write; a client that is no browser names none.
        body = json.dumps({"name": "other"}).encode()
        page = urllib.request.Request(
            f"http://localhost:{port}/api/2.0/mlflow/registered-models/create",
            data=body,
            headers={"Origin": "https://elsewhere.example", "Content-Type": "application/json"},
        )
        with pytest.raises(urllib.error.HTTPError) as blocked:
            urllib.request.urlopen(page, timeout=30)
        assert (blocked.value.code, blocked.value.read()) == (403, b"Cross-origin request blocked")
