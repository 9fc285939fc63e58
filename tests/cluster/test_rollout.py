"""`affinage rollout` on a real API server with played nodes, on which an image named `broken` never becomes ready."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from affinage.rollout.needs import wanted_secrets
from tests.charts.rendering import merged, nested, smallest
from tests.cluster.plane import Plane
from tests.support.programs import wait_for

pytestmark = pytest.mark.cluster
SECONDS = 120
BROKEN_SECONDS = 8
Rollout = Callable[..., dict[str, Any]]
DATABASE = {"url": "postgresql+psycopg://a@b/c"}


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
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


@pytest.fixture
def secret(core: client.CoreV1Api, namespace: str) -> Callable[..., None]:
    """Make a Secret, or replace it."""

    def make(name: str, **keys: str) -> None:
        core.delete_collection_namespaced_secret(namespace, field_selector=f"metadata.name={name}")
        core.create_namespaced_secret(namespace, {"metadata": {"name": name}, "stringData": keys})

    return make


@pytest.fixture
def database(secret: Callable[..., None]) -> None:
    """The Secret that the smallest values name."""
    secret("affinage-database", **DATABASE)


@pytest.fixture
def rollout(kubeconfig: Path, namespace: str, tmp_path: Path) -> Rollout:
    """One call of the command, as its JSON object."""

    def run(verb: str, *arguments: object, code: int = 0, account: Path = kubeconfig) -> dict[str, Any]:
        where = ["--namespace", namespace, "--kubeconfig", str(account)]
        command = [sys.executable, "-m", "affinage.cli.main", "rollout", verb, *map(str, arguments), *where, "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "AFFINAGE_HOME": str(tmp_path / "home")}
        )
        assert done.returncode == code, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


@contextmanager
def kubelet_that_looks_for_secrets(core: client.CoreV1Api, namespace: str) -> Iterator[None]:
    """Say of each pod whose Secret is missing what a kubelet says, in its words. Played nodes do not look at Secrets.

    The pods must have an image named `broken`: any other is played as ready a moment after it was made.
    """
    done = threading.Event()

    def missing(pod: dict[str, Any]) -> list[str]:
        has = {one.metadata.name for one in core.list_namespaced_secret(namespace).items}
        return [name for name in wanted_secrets([{"kind": "Pod", **pod}]) if name not in has]

    def look() -> None:
        while not done.wait(0.1):
            for found in core.list_namespaced_pod(namespace).items:
                pod = core.api_client.sanitize_for_serialization(found)
                names, containers = missing(pod), pod["status"].get("containerStatuses", [])
                if names and containers:
                    waiting = {"reason": "CreateContainerConfigError", "message": f'secret "{names[0]}" not found'}
                    status = {"containerStatuses": [{**one, "state": {"waiting": waiting}} for one in containers]}
                    with suppress(client.ApiException):  # the pod went meanwhile
                        core.patch_namespaced_pod_status(found.metadata.name, namespace, {"status": status})

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.fixture
def blind(plane: Plane, api: client.ApiClient, namespace: str) -> Path:
    """The kubeconfig of an account that may do all that Helm does here, and read no Secret but Helm's own."""
    everything = {"apiGroups": ["", "apps", "batch", "policy", "networking.k8s.io"], "verbs": ["*"]}
    kinds = ["pods", "services", "serviceaccounts", "configmaps", "events", "deployments", "replicasets", "jobs"]
    rules = [
        {**everything, "resources": [*kinds, "poddisruptionbudgets", "networkpolicies"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "create"]},
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "verbs": ["get", "update", "delete"],
            "resourceNames": [f"sh.helm.release.v1.affinage.v{number}" for number in range(1, 5)],
        },
    ]
    user = f"operator-{namespace}"
    rights = client.RbacAuthorizationV1Api(api)
    rights.create_namespaced_role(namespace, {"metadata": {"name": "operator"}, "rules": rules})
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "Role", "name": "operator", "apiGroup": "rbac.authorization.k8s.io"}
    rights.create_namespaced_role_binding(namespace, {"metadata": {"name": "operator"}, "roleRef": role, "subjects": [subject]})
    plane.pki.issue(user, user=user)
    return plane.pki.kubeconfig(user, url=plane.url)


@pytest.mark.usefixtures("database")
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


@pytest.mark.usefixtures("database")
def test_what_never_becomes_ready_is_taken_back_with_its_reason(rollout: Rollout, values: Callable[..., Path]) -> None:
    rollout("apply", "-f", values(), "--timeout", SECONDS)
    broken = values({"images.embedder.repository": "affinage/broken"})
    failed = rollout("apply", "-f", broken, "--timeout", BROKEN_SECONDS, code=1)["error"]
    assert "did not become ready" in failed["message"]
    assert "Revision 1 serves again." in failed["message"]
    now = rollout("status")
    assert (now["ready"], now["components"]["embedder"]["image"]) == (True, "affinage/embedder:0.1.0")


@pytest.mark.usefixtures("database")
def test_a_first_installation_that_fails_leaves_nothing(rollout: Rollout, values: Callable[..., Path]) -> None:
    broken = values({"images.embedder.repository": "affinage/broken"})
    failed = rollout("apply", "-f", broken, "--timeout", BROKEN_SECONDS, code=1)["error"]
    assert "The release was removed again." in failed["message"]
    assert rollout("status")["status"] == "absent"


@pytest.mark.usefixtures("database")
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


@pytest.mark.usefixtures("database")
def test_a_release_without_an_earlier_revision_is_not_rolled_back(rollout: Rollout, values: Callable[..., Path]) -> None:
    assert rollout("rollback", code=3)["error"]["hint"] == "Revisions: none."
    rollout("apply", "-f", values(), "--timeout", SECONDS)
    assert rollout("rollback", code=3)["error"]["hint"] == "Revisions: 1 (deployed)."
    assert rollout("rollback", "--to", 7, code=3)["error"]["type"] == "RefusedError"


def test_secrets_that_are_missing_are_named_before_anything_changes(
    rollout: Rollout, values: Callable[..., Path], secret: Callable[..., None], core: client.CoreV1Api, namespace: str
) -> None:
    wanted = values({"blobs.existingSecret": "affinage-blobs", "vectors.existingSecret": "affinage-vectors", "vectors.key": "token"})
    secret("affinage-vectors", **{"api-key": "x"})
    planned = rollout("plan", "-f", wanted, code=3)
    assert planned["refusals"] == []
    assert planned["missing_secrets"] == [
        {"name": "affinage-blobs", "keys": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "exists": False},
        {"name": "affinage-database", "keys": ["url"], "exists": False},
        {"name": "affinage-vectors", "keys": ["token"], "exists": True},
    ]
    error = rollout("apply", "-f", wanted, code=3)["error"]
    assert "There is no Secret `affinage-database`; the pods read its key `url`." in error["message"]
    assert "Secret `affinage-vectors` lacks the key `token`." in error["message"]
    assert f"kubectl --namespace {namespace} create secret generic affinage-database --from-file=url=FILE" in error["hint"]
    assert rollout("status")["status"] == "absent"
    assert core.list_namespaced_pod(namespace).items == []

    secret("affinage-blobs", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="y")
    secret("affinage-vectors", token="x")
    secret("affinage-database", **DATABASE)
    assert rollout("apply", "-f", wanted, "--timeout", SECONDS)["ready"] is True
    core.delete_namespaced_secret("affinage-blobs", namespace)
    error = rollout("apply", "-f", wanted, code=3)["error"]
    assert "affinage-blobs" in error["message"], "pods that start again would not find it"
    assert rollout("status")["revision"] == 1


def test_an_account_that_may_not_read_secrets_is_told_why_its_pods_do_not_start(
    rollout: Rollout, values: Callable[..., Path], core: client.CoreV1Api, namespace: str, blind: Path
) -> None:
    planned = rollout("plan", "-f", values(), account=blind)
    assert (planned["missing_secrets"], planned["unchecked_secrets"]) == ([], ["affinage-database"])
    broken = values({"images.gateway.repository": "affinage/broken"})
    said: list[str] = []

    def told() -> bool:
        said.extend(rollout("status", account=blind)["troubles"])
        return bool(said)

    with kubelet_that_looks_for_secrets(core, namespace):
        failed: list[dict[str, Any]] = []
        applying = threading.Thread(
            target=lambda: failed.append(rollout("apply", "-f", broken, "--timeout", 4 * BROKEN_SECONDS, code=1, account=blind)["error"])
        )
        applying.start()
        wait_for(told, what="The status does not say why the migration does not start", seconds=SECONDS)
        applying.join()
    reason = 'CreateContainerConfigError: secret "affinage-database" not found'
    assert reason in said[-1]
    assert reason in failed[0]["message"]
    assert "The release was removed again." in failed[0]["message"]


@pytest.mark.usefixtures("database")
def test_a_secret_that_goes_while_pods_are_made_brings_the_former_revision_back(
    rollout: Rollout, values: Callable[..., Path], secret: Callable[..., None], core: client.CoreV1Api, namespace: str
) -> None:
    rollout("apply", "-f", values(), "--timeout", SECONDS)
    secret("affinage-registry", MLFLOW_TRACKING_USERNAME="x", MLFLOW_TRACKING_PASSWORD="y")
    wanted = values({"registry.existingSecret": "affinage-registry", "images.worker.repository": "affinage/broken"})

    def begun() -> bool:
        return any(one.metadata.name == "sh.helm.release.v1.affinage.v2" for one in core.list_namespaced_secret(namespace).items)

    def removed_after_the_plan() -> None:
        wait_for(begun, what="The upgrade does not begin", seconds=SECONDS)
        core.delete_namespaced_secret("affinage-registry", namespace)

    remover = threading.Thread(target=removed_after_the_plan)
    with kubelet_that_looks_for_secrets(core, namespace):
        remover.start()
        failed = rollout("apply", "-f", wanted, "--timeout", 2 * BROKEN_SECONDS, code=1)["error"]
        remover.join()
    assert 'CreateContainerConfigError: secret "affinage-registry" not found' in failed["message"]
    assert "Revision 1 serves again." in failed["message"]
