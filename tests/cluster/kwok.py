"""Nodes that are played: KWOK answers for them, so that pods are scheduled, become ready and end, but nothing runs.

`stages.yaml` says how they behave. For pods that run, see `node.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from kubernetes import client

from tests.cluster.plane import Plane
from tests.support.programs import Server, required, started, wait_for

STAGES = Path(__file__).with_name("stages.yaml")
LABEL = {"type": "kwok"}
# KWOK leaves nodes without it alone.
GPU = "nvidia.com/gpu"
ADDRESSES = "10.99.0.0/16"
LEASE_SECONDS = 40
READY_SECONDS = 60


@contextmanager
def kwok(plane: Plane) -> Iterator[Server]:
    """Play every node that is labelled `type=kwok`, and its pods."""
    command: list[str | Path] = [
        required("kwok"),
        f"--kubeconfig={plane.kubeconfig}",
        f"--config={STAGES}",
        "--manage-nodes-with-label-selector=type=kwok",
        f"--cidr={ADDRESSES}",
        f"--node-lease-duration-seconds={LEASE_SECONDS}",
    ]
    with started("kwok", command, folder=plane.folder) as server:
        yield server


@contextmanager
def fake_nodes(
    plane: Plane,
    count: int,
    *,
    gpus: int = 0,
    labels: Mapping[str, str] | None = None,
    taints: tuple[Mapping[str, str], ...] = (),
    cpu: str = "16",
    memory: str = "64Gi",
) -> Iterator[list[str]]:
    """Add played nodes and wait until they are ready; they and their pods are removed afterwards.

    Parameters
    ----------
    gpus
        GPUs of each node, as allocatable `nvidia.com/gpu`.
    labels
        Beside those that every played node has.
    taints
        As in the node's `spec`, such as `{"key": "nvidia.com/gpu", "effect": "NoSchedule"}`.

    Yields
    ------
    list[str]
        Their names.
    """
    resources = {"cpu": cpu, "memory": memory, "pods": "110", **({GPU: str(gpus)} if gpus else {})}
    names = [f"kwok-{uuid4().hex[:8]}" for _ in range(count)]
    with plane.api() as api:
        core = client.CoreV1Api(api)
        try:
            for name in names:
                core.create_node(_node(name, resources=resources, labels=labels or {}, taints=taints))
            wait_for(
                lambda: all(_schedulable(core.read_node(name), taints=taints) for name in names),
                what=f"The {count} nodes are not ready",
                seconds=READY_SECONDS,
                servers=plane.servers,
            )
            yield names
        finally:
            for name in names:
                _remove(core, name)


def _node(name: str, *, resources: Mapping[str, str], labels: Mapping[str, str], taints: tuple[Mapping[str, str], ...]) -> dict[str, Any]:
    known = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    system = {"architecture": "amd64", "operatingSystem": "linux", "containerRuntimeVersion": "kwok", "kernelVersion": "kwok"}
    system |= {"kubeletVersion": "kwok", "kubeProxyVersion": "kwok", "machineID": "", "bootID": "", "osImage": "", "systemUUID": ""}
    return {
        "metadata": {"name": name, "labels": {**known, **LABEL, **labels}},
        "spec": {"taints": [dict(taint) for taint in taints]},
        "status": {"allocatable": dict(resources), "capacity": dict(resources), "nodeInfo": system},
    }


def _schedulable(node: client.V1Node, *, taints: tuple[Mapping[str, str], ...]) -> bool:
    """Whether it is ready and the taint that every new node gets is gone."""
    ready = any(condition.type == "Ready" and condition.status == "True" for condition in node.status.conditions or [])
    return ready and len(node.spec.taints or []) == len(taints)


def _remove(core: client.CoreV1Api, name: str) -> None:
    """Remove the node's pods, then the node: nobody would end the pods of a node that is gone for the first 40 seconds."""
    at_once = client.V1DeleteOptions(grace_period_seconds=0)
    for pod in core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={name}").items:
        _gone(lambda pod=pod: core.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace, body=at_once))
    _gone(lambda: core.delete_node(name))


def _gone(delete: Any) -> None:
    try:
        delete()
    except client.ApiException as error:
        if error.status != 404:
            raise
