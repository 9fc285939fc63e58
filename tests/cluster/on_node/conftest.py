"""The same cluster with one real node in place of the played ones. `tests/cluster/node.sh pytest -m node` runs these tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from kubernetes import client

from tests.cluster.crds import install
from tests.cluster.node import Node, real_node
from tests.cluster.on_node.installation import import_images
from tests.cluster.plane import Plane, control_plane


# These hide the fixtures of the folder above: every one that hangs on the control plane is here again.
@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A control plane that pods can reach."""
    if "NODE_ADDRESS" not in os.environ:
        pytest.skip("a real node needs namespaces of its own: `tests/cluster/node.sh pytest -m node`")
    with control_plane(tmp_path_factory.mktemp("plane"), address=os.environ["NODE_ADDRESS"]) as running, running.api() as api:
        install(api)
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


@pytest.fixture(scope="session")
def node(plane: Plane) -> Iterator[Node]:
    """A node that runs pods."""
    with real_node(plane) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def imported(node: Node) -> Iterator[Future[float]]:
    """The seconds until the node has the project's images. They come while the tests run that need none of them."""
    with ThreadPoolExecutor(1) as beside:
        yield beside.submit(import_images, node)
