"""A Prefect work pool of type `kubernetes` with the chart's template: a real server, a real worker and a real API server.

The worker has an account of its own with the rights that docs/how-to/install.md lists. The nodes are played, so the test is the
kubelet where a run is to run: it starts the container's command here, with the container's environment and folders, and writes
the pod's end. An image whose name contains `broken` keeps the played nodes from ending the pod before.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import helm_python
import pytest
import yaml
from kubernetes import client

from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.serving.prefect import PrefectServer
from affinage.settings import load_settings
from affinage.wiring import Affinage
from tests.charts.rendering import CHART, RELEASE, ROOT, merged, nested, smallest
from tests.cluster.plane import Plane
from tests.support.programs import Server, started, wait_for
from tests.support.restricted import breaches

pytestmark = pytest.mark.cluster
SECONDS = 150
POOL = "affinage-jobs"
LATER = "affinage/broken:0.1.0"
AUTH = "prefect:s3cret"
VALUES = {
    "generators.smollm2.minReadySeconds": 1,
    "worker.enabled": False,
    "worker.jobTemplate.enabled": True,
    "prefect.existingSecret": "affinage-prefect",
}


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


@pytest.fixture
def template(kubeconfig: Path, core: client.CoreV1Api, namespace: str, tmp_path: Path) -> Path:
    """The job template of an installed chart, as a file; the pods' database is a file, too."""
    url = f"sqlite:///{tmp_path / 'record.db'}"
    for name, keys in {"affinage-database": {"url": url}, "affinage-prefect": {"PREFECT_API_AUTH_STRING": AUTH}}.items():
        core.create_namespaced_secret(namespace, {"metadata": {"name": name}, "stringData": keys})
    with helm_python.Config(kubeconfig_path=kubeconfig, namespace=namespace, qps=200, burst_limit=400) as config:
        config.install(CHART, RELEASE, merged(smallest(), nested(VALUES)), wait="watcher", timeout=SECONDS)
    written = core.read_namespaced_config_map("affinage-job-template", namespace).data["base-job-template.json"]
    file = tmp_path / "template.json"
    file.write_text(written)
    return file


@pytest.fixture
def account(plane: Plane, api: client.ApiClient, namespace: str) -> Path:
    """The kubeconfig of the worker."""
    page = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    documented = re.search(r"```yaml\n(rules:.*?)```", page, re.DOTALL)
    assert documented
    rights, user = client.RbacAuthorizationV1Api(api), f"worker-{namespace}"
    rights.create_namespaced_role(namespace, {"metadata": {"name": "worker"}, **yaml.safe_load(documented[1])})
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "Role", "name": "worker", "apiGroup": "rbac.authorization.k8s.io"}
    rights.create_namespaced_role_binding(namespace, {"metadata": {"name": "worker"}, "roleRef": role, "subjects": [subject]})
    plane.pki.issue(user, user=user)
    return plane.pki.kubeconfig(user, url=plane.url)


@pytest.fixture
def prefect(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrefectServer]:
    """A server that knows the flows of one declared source, and the pool."""
    (tmp_path / "docs").mkdir()
    with PrefectServer(tmp_path / "prefect") as server:
        own = {"AFFINAGE_HOME": str(tmp_path / "home"), "AFFINAGE_DATABASE_URL": f"sqlite:///{tmp_path / 'record.db'}"}
        for name, value in {**server.environment, **own}.items():
            monkeypatch.setenv(name, value)
        app = Affinage(load_settings())
        declared = parse_declarations({"sources": [{"name": "handbook", "path": "docs"}]}, folder=tmp_path, origin="test")
        with app.database.write() as connection:
            apply_declarations(connection, declared, now=app.now())
        app.close()
        server.wait()
        deploy = [sys.executable, "flows/deploy.py", "--pool", POOL, "--job-template", str(template)]
        for _ in range(2):  # after each upgrade again
            done = subprocess.run(deploy, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
        yield server


@pytest.fixture
def worker(prefect: PrefectServer, account: Path, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    settings = {
        "KUBECONFIG": str(account),
        "PREFECT_API_AUTH_STRING": AUTH,
        "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES": namespace,
        "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_NAME": "affinage-prefect",
        "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_KEY": "PREFECT_API_AUTH_STRING",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "kubernetes"]
    with started("worker", command, folder=tmp_path) as server:
        yield server


class Runs:
    """Flow runs and their pods."""

    def __init__(self, core: client.CoreV1Api, namespace: str, worker: Server) -> None:
        self._core, self._namespace, self._worker = core, namespace, worker

    def start(self, name: str, **variables: str) -> str:
        """Id of a new run; of each deployment one at a time, a second would be cancelled."""
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as api:
            deployment = api.read_deployment_by_name(name)
            return str(api.create_flow_run_from_deployment(deployment.id, job_variables=variables).id)

    def state(self, run: str) -> str:
        """Its state as the server has it."""
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as api:
            found = api.read_flow_run(UUID(run)).state
        return found.type.value if found else ""

    def ends(self, run: str, *, as_: str) -> None:
        """Wait for its state."""
        wait_for(lambda: self.state(run) == as_, what=f"The run is not {as_}", seconds=SECONDS, servers=[self._worker])

    def pod(self, run: str) -> dict[str, Any]:
        """The run's pod once a node has it."""

        def found() -> list[client.V1Pod]:
            pods = self._core.list_namespaced_pod(self._namespace, label_selector=f"prefect.io/flow-run-id={run}").items
            return [pod for pod in pods if pod.spec.node_name and pod.status.container_statuses]

        (pod,) = wait_for(found, what=f"The run {run} has no pod", seconds=SECONDS, servers=[self._worker])
        raw: dict[str, Any] = self._core.api_client.sanitize_for_serialization(pod)
        return raw

    def end(self, pod: dict[str, Any], *, code: int, reason: str) -> None:
        """Write what a kubelet writes when the pod's container has ended."""
        ended = {"exitCode": code, "reason": reason}
        containers = [{**one, "state": {"terminated": ended}} for one in pod["status"]["containerStatuses"]]
        status = {"phase": "Succeeded" if code == 0 else "Failed", "containerStatuses": containers}
        self._core.patch_namespaced_pod_status(pod["metadata"]["name"], self._namespace, {"status": status})

    def execute(self, pod: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
        """Run the container's command here; its writable folders lie in `folder`."""
        (container,) = pod["spec"]["containers"]
        mounts = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
        places = {mount: str(folder / mount.strip("/").replace("/", "-")) for mount in mounts}
        environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        for entry in container["env"]:
            value = self._value(entry)
            mount = next((mount for mount in mounts if value == mount or value.startswith(f"{mount}/")), None)
            environment[entry["name"]] = places[mount] + value.removeprefix(mount) if mount else value
        for place in places.values():
            Path(place).mkdir(parents=True)
        return subprocess.run(container["args"], env=environment, cwd=folder, capture_output=True, text=True, check=False)

    def _value(self, entry: dict[str, Any]) -> str:
        source = entry.get("valueFrom", {})
        if "secretKeyRef" in source:
            held = self._core.read_namespaced_secret(source["secretKeyRef"]["name"], self._namespace)
            return base64.b64decode(held.data[source["secretKeyRef"]["key"]]).decode()
        return "1" if "resourceFieldRef" in source else str(entry.get("value", ""))


@pytest.fixture
def runs(core: client.CoreV1Api, namespace: str, worker: Server) -> Runs:
    return Runs(core, namespace, worker)


def test_a_run_becomes_a_job_of_the_charts_template_and_ends_as_its_pod_does(
    runs: Runs, api: client.ApiClient, core: client.CoreV1Api, namespace: str, tmp_path: Path
) -> None:
    plain, good = runs.start("evaluate/candidates"), runs.start("promote/evidence", image=LATER)

    pod = runs.pod(plain)
    (container,) = pod["spec"]["containers"]
    assert breaches(pod["spec"]) == []
    assert (container["image"], pod["spec"]["serviceAccountName"]) == ("affinage/worker:0.1.0", "affinage-platform")
    assert {volume["name"] for volume in pod["spec"]["volumes"]} == {"home", "tmp"}
    assert container["args"] == ["prefect", "flow-run", "execute"]
    values = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}
    assert len(values) == len(container["env"]), "nothing is set twice"
    assert values["AFFINAGE_REGISTRY_URL"] == "http://mlflow.mlflow.svc:5000"
    assert values["AFFINAGE_DATABASE_URL"] == {"secretKeyRef": {"name": "affinage-database", "key": "url"}}
    assert values["PREFECT_API_AUTH_STRING"] == {"secretKeyRef": {"name": "affinage-prefect", "key": "PREFECT_API_AUTH_STRING"}}
    assert values["PREFECT__FLOW_RUN_ID"] == plain
    assert "s3cret" not in json.dumps(pod)
    # The policies, the worker's own and those of what it calls, know a flow's pod by these.
    policy = client.NetworkingV1Api(api).read_namespaced_network_policy("affinage-worker", namespace).spec.pod_selector
    assert policy.match_labels.items() <= pod["metadata"]["labels"].items()
    assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == "flow"

    (tmp_path / "node").mkdir()
    running = runs.pod(good)
    done = runs.execute(running, tmp_path / "node")
    assert done.returncode == 0, done.stdout + done.stderr
    runs.end(running, code=0, reason="Completed")
    runs.ends(good, as_="COMPLETED")

    bad = runs.start("promote/evidence", image=LATER)
    runs.end(runs.pod(bad), code=137, reason="OOMKilled")
    runs.ends(bad, as_="CRASHED")
    jobs = client.BatchV1Api(api)

    def ended() -> dict[str, tuple[int | None, int | None]]:
        found = jobs.list_namespaced_job(namespace, label_selector="prefect.io/flow-run-id").items
        return {job.metadata.labels["prefect.io/flow-run-id"]: (job.status.succeeded, job.status.failed) for job in found}

    wait_for(lambda: ended() == {plain: (1, None), good: (1, None), bad: (None, 1)}, what="The jobs do not end", seconds=SECONDS)
