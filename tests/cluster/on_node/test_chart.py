"""The chart's pods run on a real node: what they were promised they have, `helm test` passes, and a rollout loses nothing.

The programs are played by `double.py`, which ends a pod that is not as promised. NetworkPolicy is not enforced here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest
from kubernetes import client

from tests.charts.rendering import CHART, RELEASE, Values, merged, nested, smallest, values_file
from tests.cluster.image import write_image, write_layer
from tests.cluster.node import Node
from tests.support.load import under_load
from tests.support.programs import required, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.node]

SECONDS = 180
DOUBLE = Path(__file__).with_name("double.py")
PROCESSES = ("gateway", "embedder", "generator", "worker")
# The node has the cores of this machine; the limit of the processor is what the double checks.
SMALL = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}
COMPUTES = merged(SMALL, {"limits": {"cpu": "2"}})
VALUES: Values = {
    **{f"images.{name}": {"repository": f"affinage.local/{name}", "tag": "1", "pullPolicy": "Never"} for name in PROCESSES},
    **{f"{name}.resources": SMALL for name in ("gateway", "controller", "migration")},
    **{f"{name}.resources": COMPUTES for name in ("embedder", "worker", "generators.smollm2")},
    **{f"{name}.replicas": 1 for name in ("controller", "embedder")},
    "generators.smollm2.minReadySeconds": 1,
    "declarations": values_file("everything")["declarations"],
}


@pytest.fixture(scope="session")
def images(node: Node, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The images of the chart, all with the same content."""
    folder = tmp_path_factory.mktemp("images")
    program = folder / "double"
    program.write_bytes(DOUBLE.read_bytes())
    program.chmod(0o755)
    python = folder / "python"
    python.symlink_to("python3.11")
    empty = folder / "empty"
    empty.mkdir()
    contents = {f"usr/bin/{name}": program for name in ("affinage", "bentoml", "prefect")}
    contents |= {"usr/bin/python": python, "app/flows/deploy.py": program}
    contents |= {f"app/services/{name}": empty for name in ("embedder", "generator")}
    layer = write_layer(folder / "layer.tar", contents)
    for name in PROCESSES:
        node.import_image(write_image(folder / f"{name}.tar", name=f"affinage.local/{name}:1", layers=[required("rootfs.tar"), layer]))


@pytest.fixture
def helm(images: None, kubeconfig: Path, api: client.ApiClient, namespace: str) -> Iterator[helm_python.Config]:
    secret = {"metadata": {"name": "affinage-database"}, "stringData": {"url": "postgresql://test"}}
    client.CoreV1Api(api).create_namespaced_secret(namespace, secret)
    with helm_python.Config(kubeconfig_path=kubeconfig, namespace=namespace, qps=200, burst_limit=400) as config:
        yield config


def values(*more: Values) -> dict[str, Any]:
    out = merged(smallest(), nested(VALUES))
    for given in more:
        out = merged(out, nested(given))
    return out


def told(api: client.ApiClient, namespace: str) -> str:
    """What the pods said and what became of them, for an error message."""
    core = client.CoreV1Api(api)
    lines = []
    for pod in core.list_namespaced_pod(namespace).items:
        for status in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
            try:
                said = core.read_namespaced_pod_log(pod.metadata.name, namespace, container=status.name, tail_lines=5)
            except client.ApiException as error:
                said = str(error.reason)
            lines.append(f"{pod.metadata.name} {status.name} ready={status.ready} {status.state}: {said}")
    return "\n".join(lines)


def test_the_pods_are_as_promised_and_a_rollout_loses_nothing(helm: helm_python.Config, api: client.ApiClient, namespace: str) -> None:
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    try:
        helm.install(CHART, RELEASE, values(), wait="watcher", timeout=SECONDS)
    except helm_python.HelmError as error:
        raise AssertionError(f"{error}\n{told(api, namespace)}") from error
    pods = core.list_namespaced_pod(namespace).items
    assert {pod.metadata.labels["app.kubernetes.io/component"] for pod in pods} == {
        *("gateway", "controller", "embedder", "generator-smollm2", "worker")
    }
    assert all(status.restart_count == 0 for pod in pods for status in pod.status.container_statuses)

    assert "{'/health/ready': 200, '/v1/models': 401}" in helm.test(RELEASE, logs=True, timeout=SECONDS)["logs"]

    gateway = f"{RELEASE}-gateway"
    address = core.read_namespaced_service(gateway, namespace).spec.cluster_ip
    before = {pod.metadata.name for pod in pods if pod.metadata.name.startswith(gateway)}
    with under_load(address, 8400, clients=4, streams=8, stream_path="/stream") as load:
        wait_for(lambda: load.streamed, what="No stream comes through", seconds=SECONDS)
        started = time.monotonic()
        helm.upgrade(CHART, RELEASE, values({"gateway.logLevel": "DEBUG"}), wait="watcher", timeout=SECONDS)
        # Helm is content when the new pods are ready; the old ones still end.
        wait_for(lambda: not before & names(core, namespace), what="The old gateways stay", seconds=SECONDS)
        seconds = time.monotonic() - started
    print(json.dumps({"answered": load.answered, "streamed": load.streamed, "lost": len(load.lost), "seconds": round(seconds)}))  # noqa: T201
    assert load.lost == []
    assert load.answered > 200
    assert load.streamed > 8
    assert apps.read_namespaced_deployment(gateway, namespace).status.available_replicas == 2


def names(core: client.CoreV1Api, namespace: str) -> set[str]:
    return {pod.metadata.name for pod in core.list_namespaced_pod(namespace).items}
