"""`affinage rollout` on a real API server with played nodes, on which an image named `broken` never becomes ready."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.rendering import merged, nested, smallest

pytestmark = pytest.mark.cluster
SECONDS = 120
BROKEN_SECONDS = 8
Rollout = Callable[..., dict[str, Any]]


@pytest.fixture
def values(tmp_path: Path) -> Callable[..., Path]:
    """A file of values that come up quickly, with some changed by their dotted names."""

    def write(changed: dict[str, Any] | None = None) -> Path:
        file = tmp_path / "values.yaml"
        given = {"generators.smollm2.minReadySeconds": 1, **(changed or {})}
        file.write_text(yaml.safe_dump(merged(smallest(), nested(given))))
        return file

    return write


@pytest.fixture
def rollout(kubeconfig: Path, namespace: str, tmp_path: Path) -> Rollout:
    """One call of the command, as its JSON object."""

    def run(verb: str, *arguments: object, code: int = 0) -> dict[str, Any]:
        where = ["--namespace", namespace, "--kubeconfig", str(kubeconfig)]
        command = [sys.executable, "-m", "affinage.cli.main", "rollout", verb, *map(str, arguments), *where, "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "AFFINAGE_HOME": str(tmp_path / "home")}
        )
        assert done.returncode == code, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def test_a_release_is_planned_installed_changed_and_brought_back(rollout: Rollout, values: Callable[..., Path]) -> None:
    assert rollout("status") == {"revision": None, "status": "absent", "ready": False, "components": {}, "troubles": []}
    first = rollout("plan", "-f", values())
    assert first["refusals"] == []
    assert {change["action"] for change in first["diff"]} == {"create"}
    assert ("Deployment", "affinage-gateway") in {(change["kind"], change["name"]) for change in first["diff"]}

    installed = rollout("apply", "-f", values(), "--timeout", SECONDS)
    assert (installed["revision"], installed["status"], installed["ready"]) == (1, "deployed", True)
    again = rollout("apply", "-f", values(), "--timeout", SECONDS)
    assert (again["revision"], again["diff"]) == (1, []), "what is so already makes no revision"

    planned = rollout("plan", "-f", values({"gateway.replicas": 3}))
    assert [(one["action"], one["kind"], one["name"]) for one in planned["diff"]] == [("change", "Deployment", "affinage-gateway")]
    assert [line for line in planned["diff"][0]["diff"] if line[0] in "+-"] == ["-  replicas: 2", "+  replicas: 3"]
    assert rollout("status")["components"]["gateway"]["wanted"] == 2, "a plan changes nothing"
    changed = rollout("apply", "-f", values({"gateway.replicas": 3}), "--timeout", SECONDS)
    assert (changed["revision"], changed["components"]["gateway"]["ready"]) == (2, 3)

    back = rollout("rollback", "--timeout", SECONDS)
    assert (back["restored"], back["revision"], back["components"]["gateway"]["wanted"]) == (1, 3, 2)


def test_what_never_becomes_ready_is_taken_back_with_its_reason(rollout: Rollout, values: Callable[..., Path]) -> None:
    rollout("apply", "-f", values(), "--timeout", SECONDS)
    broken = values({"images.embedder.repository": "affinage/broken"})
    failed = rollout("apply", "-f", broken, "--timeout", BROKEN_SECONDS, code=1)["error"]
    assert "did not become ready" in failed["message"]
    assert "Revision 1 serves again." in failed["message"]
    now = rollout("status")
    assert (now["ready"], now["components"]["embedder"]["image"]) == (True, "affinage/embedder:0.1.0")


def test_a_first_installation_that_fails_leaves_nothing(rollout: Rollout, values: Callable[..., Path]) -> None:
    broken = values({"images.embedder.repository": "affinage/broken"})
    failed = rollout("apply", "-f", broken, "--timeout", BROKEN_SECONDS, code=1)["error"]
    assert "The release was removed again." in failed["message"]
    assert rollout("status")["status"] == "absent"


def test_what_the_api_server_would_refuse_is_said_before_anything_changes(rollout: Rollout, values: Callable[..., Path]) -> None:
    # Allowed by the chart's schema, forbidden by Kubernetes: only the API server knows.
    refused = values({"gateway.resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})
    planned = rollout("plan", "-f", refused, code=3)
    assert any("must be less than or equal to cpu limit" in refusal for refusal in planned["refusals"])
    assert "must be less than or equal to cpu limit" in rollout("apply", "-f", refused, code=3)["error"]["message"]
    assert rollout("status")["status"] == "absent"


def test_values_that_the_chart_does_not_know_are_wrong_usage(rollout: Rollout, values: Callable[..., Path]) -> None:
    error = rollout("plan", "-f", values({"gateway.replica": 3}), code=2)["error"]
    assert "replica" in error["message"]
    assert rollout("plan", "-f", values(), "--chart", "/nowhere", code=1)["error"]["hint"]


def test_a_release_without_an_earlier_revision_is_not_rolled_back(rollout: Rollout, values: Callable[..., Path]) -> None:
    assert rollout("rollback", code=3)["error"]["hint"] == "Revisions: none."
    rollout("apply", "-f", values(), "--timeout", SECONDS)
    assert rollout("rollback", code=3)["error"]["hint"] == "Revisions: 1 (deployed)."
    assert rollout("rollback", "--to", 7, code=3)["error"]["type"] == "RefusedError"
