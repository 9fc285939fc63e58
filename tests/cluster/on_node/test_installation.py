"""The chart on a real node with the real images: documents are indexed by a schedule, a question is answered, a rollout loses nothing.

PostgreSQL, Weaviate, S3, MLflow and Prefect are processes beside the cluster, at the node's address. No pool of generators: the answers
are quotes.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import helm_python
import openai
import pytest
from kubernetes import client
from kubernetes.stream import stream
from sqlalchemy import func, select

from affinage.database.tables.feedback import feedback
from tests.charts.rendering import CHART, RELEASE, merged, nested
from tests.cluster import images
from tests.cluster.node import STATE, Node
from tests.cluster.parts import Parts, outside
from tests.cluster.plane import usable
from tests.support.load import under_load
from tests.support.process import CANTEEN, LEAVE, PERMITS
from tests.support.programs import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.node, pytest.mark.timeout(600)]

SECONDS = 180
NAMESPACE = "affinage"
QUESTION = "How long is a parking permit valid?"
DOCUMENTS = {"public/permits.md": PERMITS, "public/cantine.md": CANTEEN, "hr/leave.md": LEAVE}
DECLARED = {
    "sources": [
        {
            "name": "handbook",
            "kind": "folder",
            "path": "/srv/documents",
            "schedule": "* * * * *",
            "access": [{"match": "public/**", "allow": ["everyone"]}, {"match": "hr/**", "allow": ["group:hr"]}],
        }
    ],
    "assistants": [{"name": "guichet", "sources": ["handbook"]}],
}


@dataclass
class Installation:
    """The release and what it talks to."""

    parts: Parts
    api: client.ApiClient
    helm: helm_python.Config
    values: dict[str, Any]

    @property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)

    def pods(self, component: str) -> list[client.V1Pod]:
        """Those that are not ending."""
        found = self.core.list_namespaced_pod(NAMESPACE, label_selector=f"app.kubernetes.io/component={component}").items
        return [pod for pod in found if not pod.metadata.deletion_timestamp]

    @property
    def gateway(self) -> str:
        """Address of its Service."""
        return str(self.core.read_namespaced_service(f"{RELEASE}-gateway", NAMESPACE).spec.cluster_ip)

    def client(self, user: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://{self.gateway}:8400/v1", api_key=self.key(user), max_retries=0, timeout=60)

    def key(self, user: str) -> str:
        return str(self.parts.affinage("key", "create", "--user", user)["key"])

    def state(self) -> str:
        """What every pod does and said last, for an error message."""
        lines = []
        for pod in self.core.list_namespaced_pod(NAMESPACE).items:
            status = [one.to_dict().get("state") for one in pod.status.container_statuses or []]
            try:
                log = self.core.read_namespaced_pod_log(pod.metadata.name, NAMESPACE, tail_lines=15)
            except client.ApiException as error:
                log = str(error.reason)
            lines.append(f"{pod.metadata.name} {pod.status.phase} {status}\n{log}")
        for event in self.core.list_namespaced_event(NAMESPACE).items:
            if event.type == "Warning":
                lines.append(f"{event.involved_object.name}: {event.message}")
        return "\n".join(lines)


@pytest.fixture(scope="module")
def installed(node: Node, api: client.ApiClient, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    began = time.monotonic()
    for name in images.LOCKS:
        node.import_image(images.archive(name))
    imported = time.monotonic() - began
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    wait_for(lambda: usable(api, NAMESPACE), what="The namespace cannot be used", seconds=60)
    with outside(tmp_path_factory.mktemp("chart"), address=node.address) as parts:
        _volume(core)
        with helm_python.Config(kubeconfig_path=kubeconfig, namespace=NAMESPACE, qps=200, burst_limit=400) as helm:
            running = Installation(parts, api, helm, _values(core, parts))
            began = time.monotonic()
            try:
                helm.install(CHART, RELEASE, running.values, wait="watcher", timeout=SECONDS)
            except helm_python.HelmError as error:
                pytest.fail(f"{error}\n{running.state()}", pytrace=False)
            sys.stderr.write(f"\nImages imported in {imported:.0f} s; installed and ready in {time.monotonic() - began:.0f} s.\n")
            yield running
            helm.uninstall(RELEASE, timeout=SECONDS)
    core.delete_namespace(NAMESPACE)
    core.delete_persistent_volume("documents")


def _volume(core: client.CoreV1Api) -> None:
    """The documents, as an administrator gives them to the namespace."""
    folder = STATE / "documents"
    for name, text in DOCUMENTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    modes, size = ["ReadOnlyMany"], {"storage": "1Mi"}
    source = {"hostPath": {"path": str(folder)}, "capacity": size, "accessModes": modes, "storageClassName": ""}
    core.create_persistent_volume({"metadata": {"name": "documents"}, "spec": source})
    claim = {"accessModes": modes, "storageClassName": "", "volumeName": "documents", "resources": {"requests": size}}
    core.create_namespaced_persistent_volume_claim(NAMESPACE, {"metadata": {"name": "documents"}, "spec": claim})


def _values(core: client.CoreV1Api, parts: Parts) -> dict[str, Any]:
    """Values of the installation, and the Secrets that they name."""
    url, key = parts.environment["AFFINAGE_DATABASE_URL"], os.environ["AWS_ACCESS_KEY_ID"]
    core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": "database"}, "stringData": {"url": url}})
    keys = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": os.environ["AWS_SECRET_ACCESS_KEY"]}
    core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": "blobs"}, "stringData": keys})
    little = {"cpu": "50m", "memory": "64Mi"}
    small = {
        **{f"{component}.resources.requests": little for component in ("gateway", "controller", "embedder", "worker", "migration")},
        **{f"images.{image}.pullPolicy": "Never" for image in images.LOCKS},
        "embedder.replicas": 1,
        "controller.replicas": 1,
        "generators.smollm2": None,
    }
    return merged(
        nested(small),
        {
            "database": {"existingSecret": "database"},
            "registry": {"url": parts.mlflow_url},
            "vectors": {"url": parts.environment["AFFINAGE_VECTORS_URL"], "grpcPort": int(parts.environment["AFFINAGE_VECTORS_GRPC_PORT"])},
            "blobs": {"url": parts.environment["AFFINAGE_BLOBS_URL"], "endpointUrl": parts.s3_url, "existingSecret": "blobs"},
            "prefect": {"apiUrl": parts.environment["PREFECT_API_URL"]},
            "worker": {"documents": {"existingClaim": "documents"}},
            "declarations": DECLARED,
        },
    )


def test_a_scheduled_run_in_the_worker_indexes_and_the_service_answers_with_checked_quotes(installed: Installation) -> None:
    (worker,) = installed.pods("worker")
    command = ["python", "deploy.py", "--pool", "affinage"]
    said = stream(
        installed.core.connect_get_namespaced_pod_exec, worker.metadata.name, NAMESPACE, command=command,
        stdin=False, stdout=True, stderr=True, tty=False,
    )  # fmt: skip
    assert "index/handbook" in said
    began = time.monotonic()
    try:
        wait_for(
            lambda: installed.parts.affinage("index", "status")["sources"][0]["documents"] == len(DOCUMENTS),
            what="The scheduled run did not index",
            seconds=SECONDS,
        )
    except AssertionError as error:
        pytest.fail(f"{error}\n{installed.state()}", pytrace=False)
    sys.stderr.write(f"\nIndexed {time.monotonic() - began:.0f} s after the schedule was told.\n")
    alice = installed.client("alice")
    reply = alice.chat.completions.create(model="guichet", messages=[{"role": "user", "content": QUESTION}])
    told: dict[str, Any] = reply.model_extra["affinage"]  # type: ignore[index,assignment]
    assert told["known"] is True
    (citation,) = told["citations"]
    assert citation["document"] == "handbook/public/permits.md"
    assert citation["quote"] in PERMITS
    alice.post("/feedback", body={"answer_id": told["answer_id"], "rating": "up"}, cast_to=object)
    app = installed.parts.installation()
    with app.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(feedback)).scalar_one() == 1
        assert connection.engine.dialect.name == "postgresql"
    app.close()


def test_nobody_is_let_in_without_a_token_and_helm_test_says_so(installed: Installation) -> None:
    assert installed.helm.test(RELEASE, timeout=SECONDS)


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0


def test_a_gateway_is_ready_soon_after_it_starts(installed: Installation) -> None:
    gone = installed.pods("gateway")[0].metadata.name
    before = {pod.metadata.name for pod in installed.pods("gateway")}
    installed.core.delete_namespaced_pod(gone, NAMESPACE)

    def running() -> client.V1PodStatus | None:
        new = [pod.status for pod in installed.pods("gateway") if pod.metadata.name not in before]
        return new[0] if new and new[0].pod_ip and new[0].container_statuses and new[0].container_statuses[0].state.running else None

    found = wait_for(running, what="No pod comes in its place", seconds=SECONDS)
    wait_for(lambda: _status(f"http://{found.pod_ip}:8400/health/ready") == 200, what="The gateway is not ready", seconds=SECONDS)
    took = time.time() - found.container_statuses[0].state.running.started_at.timestamp()
    sys.stderr.write(f"\nGateway ready {took:.0f} s after its container started (to the second).\n")


def test_an_upgrade_and_a_rollback_of_the_gateway_lose_nothing(installed: Installation) -> None:
    key = installed.key("load")
    body = {"model": "guichet", "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
    with under_load(
        installed.gateway, 8400, clients=2, streams=2, path="/health/ready", stream_path="/v1/chat/completions",
        headers=f"Authorization: Bearer {key}\r\n", stream_body=json.dumps(body).encode(),
    ) as load:  # fmt: skip
        wait_for(lambda: load.streamed or load.lost, what="No stream comes through", seconds=SECONDS)
        assert load.lost == []
        before = {pod.metadata.name for pod in installed.pods("gateway")}
        began = time.monotonic()
        changed = merged(installed.values, nested({"gateway.logLevel": "WARNING"}))
        installed.helm.upgrade(CHART, RELEASE, changed, wait="watcher", timeout=SECONDS)
        forth = time.monotonic() - began
        assert not before & {pod.metadata.name for pod in installed.pods("gateway")}
        installed.helm.rollback(RELEASE, version=1, wait="watcher", timeout=SECONDS)
        back = time.monotonic() - began - forth
        time.sleep(8)  # the last of the old pods serves on for 5 s
    sys.stderr.write(
        f"\nUpgrade {forth:.0f} s, rollback {back:.0f} s: {load.answered} requests and {load.streamed} streams, {len(load.lost)} lost.\n"
    )
    assert load.lost == []
    level = {one.name: one.value for one in installed.pods("gateway")[0].spec.containers[0].env}["AFFINAGE_LOG_LEVEL"]
    assert level == "INFO"
    assert urlsplit(installed.parts.mlflow_url).hostname == os.environ["NODE_ADDRESS"]
