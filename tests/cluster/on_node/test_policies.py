"""The chart's network policies, held on a real node by `policies.py`: who reaches whom, tried on real connections."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import helm_python
import pytest
from kubernetes import client

from tests.charts.rendering import CHART, RELEASE, rendered
from tests.cluster.node import Node
from tests.cluster.on_node.test_pods import pod
from tests.cluster.policies import enforced
from tests.support.programs import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.node]

SECONDS = 60
LISTEN = """
import socket, threading, time

def serve(port):
    listening = socket.create_server(("", port))
    while True:
        listening.accept()[0].close()

for port in {ports}:
    threading.Thread(target=serve, args=(port,), daemon=True).start()
time.sleep(10000)
"""
# The first try waits until the rules know this pod's address.
ASK = """
import json, socket, time

def reaches(address, port):
    try:
        socket.create_connection((address, port), timeout=3).close()
    except OSError:
        return False
    return True

time.sleep(3)
print(json.dumps({{name: reaches(*target) for name, target in {targets}.items()}}))
"""
PORTS = {"gateway": (8400, 8401), "embedder": (3000, 3001), "generator-smollm2": (3000,)}
DATABASE, OTHER = 5432, 5433
MODELS = {"embedder:3000", "generator-smollm2:3000"}
EVERYTHING = {f"{name}:{port}" for name, ports in PORTS.items() for port in ports} | {f"node:{DATABASE}", f"node:{OTHER}"}
REACHED = {
    "gateway": MODELS | {f"node:{DATABASE}"},
    "controller": MODELS | {f"node:{DATABASE}"},
    "worker": MODELS | {f"node:{DATABASE}"},
    "flow": MODELS | {f"node:{DATABASE}"},
    "migration": {f"node:{DATABASE}"},
    "embedder": set[str](),
    "generator-smollm2": set[str](),
    # A pod of somebody else: what it may do is not ours to say, but it finds one door open.
    "stranger": {"gateway:8400", f"node:{DATABASE}", f"node:{OTHER}"},
}


@pytest.fixture
def servers_of_the_node(node: Node) -> Iterator[None]:
    """What stands for a database outside the cluster, and for a server that no pod has to do with."""
    with ExitStack() as stack:
        for port in (DATABASE, OTHER):
            stack.enter_context(socket.create_server((node.address, port)))
        yield


def labels(component: str) -> dict[str, str]:
    if component == "stranger":
        return {"app": component}
    names = {"name": "affinage", "instance": RELEASE, "component": component}
    return {f"app.kubernetes.io/{name}": value for name, value in names.items()}


def running(core: client.CoreV1Api, namespace: str, name: str) -> str:
    """The pod's address once it runs."""
    found = wait_for(lambda: core.read_namespaced_pod(name, namespace).status.pod_ip, what=f"{name} has no address", seconds=SECONDS)
    wait_for(lambda: core.read_namespaced_pod(name, namespace).status.phase == "Running", what=f"{name} does not run", seconds=SECONDS)
    return str(found)


@pytest.mark.usefixtures("servers_of_the_node")
def test_each_component_reaches_what_it_is_for_and_nothing_else(node: Node, api: client.ApiClient, namespace: str) -> None:
    core, network = client.CoreV1Api(api), client.NetworkingV1Api(api)
    with helm_python.Chart.load(CHART) as chart:
        policies = rendered(chart, {"worker.jobTemplate.enabled": True}, namespace=namespace).all("NetworkPolicy")

    def start(name: str, component: str, program: str, **spec: Any) -> None:
        made = pod(name, program, **spec)
        made["metadata"]["labels"] = labels(component)
        core.create_namespaced_pod(namespace, made)

    def reached(name: str) -> set[str]:
        wait_for(lambda: core.read_namespaced_pod(name, namespace).status.phase == "Succeeded", what=f"{name} goes on", seconds=SECONDS)
        return {target for target, yes in json.loads(core.read_namespaced_pod_log(name, namespace)).items() if yes}

    for component, ports in PORTS.items():
        start(component, component, LISTEN.format(ports=ports))
    addresses = {component: running(core, namespace, component) for component in PORTS} | {"node": node.address}
    targets = {name: (addresses[name.partition(":")[0]], int(name.partition(":")[2])) for name in EVERYTHING}
    asking = ASK.format(targets=targets)
    with enforced(api):
        start("before", "embedder", asking, restartPolicy="Never")
        assert reached("before") == EVERYTHING, "without a policy everything is open"
        for one in policies:
            one["metadata"].pop("annotations", None)
            network.create_namespaced_network_policy(namespace, one)
        for component in REACHED:
            start(f"ask-{component}", component, asking, restartPolicy="Never")
        assert {component: reached(f"ask-{component}") for component in REACHED} == REACHED
