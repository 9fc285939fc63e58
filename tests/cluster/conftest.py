"""One control plane with played nodes for all tests of this folder, and a namespace of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from kubernetes import client

from tests.cluster.crds import install
from tests.cluster.kwok import fake_nodes, kwok
from tests.cluster.plane import Plane, control_plane, usable
from tests.support.programs import wait_for

NODES = 3
NAMESPACE_SECONDS = 60


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A control plane with three played nodes and the resource types of the Prometheus operator."""
    with control_plane(tmp_path_factory.mktemp("plane")) as running, kwok(running), running.api() as api:
        install(api)
        with fake_nodes(running, NODES):
            yield running


@pytest.fixture(scope="session")
def kubeconfig(plane: Plane) -> Path:
    """Of an administrator."""
    return plane.kubeconfig


@pytest.fixture(scope="session")
def api(plane: Plane) -> Iterator[client.ApiClient]:
    """A client with an administrator's rights."""
    with plane.api() as opened:
        yield opened


@pytest.fixture
def namespace(api: client.ApiClient) -> Iterator[str]:
    """A new namespace that admits only pods of the *restricted* standard; its pods are gone when the next test starts."""
    name = f"test-{uuid4().hex[:8]}"
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    wait_for(lambda: usable(api, name), what=f"Namespace {name} has no ServiceAccount", seconds=NAMESPACE_SECONDS)
    yield name
    # The namespace itself goes 5 to 10 seconds later and nobody waits for it; in one that ends, nothing new is made.
    core.delete_namespace(name)
    wait_for(lambda: _emptied(core, name), what=f"Pods remain in namespace {name}", seconds=NAMESPACE_SECONDS)


def _emptied(core: client.CoreV1Api, namespace: str) -> bool:
    """Remove the namespace's pods at once; whether there were none."""
    if not core.list_namespaced_pod(namespace).items:
        return True
    core.delete_collection_namespaced_pod(namespace, grace_period_seconds=0)
    return False
