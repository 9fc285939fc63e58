"""A real Weaviate server, on loopback unless told otherwise, built by `make cluster-bin` from a pinned Go module."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.programs import free_ports

START_SECONDS = 60
SERVER = "weaviate-server"


@contextmanager
def running(server: Path, folder: Path, *, address: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """The server on an empty folder; its address and its gRPC port."""
    http, grpc, gossip, data, raft, rpc = free_ports(6)
    environment = {
        **os.environ,
        "PERSISTENCE_DATA_PATH": str(folder), "DEFAULT_VECTORIZER_MODULE": "none", "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true",
        "CLUSTER_HOSTNAME": "n1", "CLUSTER_GOSSIP_BIND_PORT": str(gossip), "CLUSTER_DATA_BIND_PORT": str(data), "RAFT_PORT": str(raft),
        "RAFT_INTERNAL_RPC_PORT": str(rpc), "CLUSTER_ADVERTISE_ADDR": "127.0.0.1", "DISABLE_TELEMETRY": "true", "GRPC_PORT": str(grpc),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("wb") as log:
        command = [str(server), "--host", address, "--port", str(http), "--scheme", "http"]
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            url = f"http://{address}:{http}"
            _wait(child, url, folder / "server.log")
            yield url, grpc
        finally:
            child.terminate()
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _wait(child: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if child.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/v1/.well-known/ready", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError(f"Weaviate did not come up: {log.read_text(errors='replace')[-2000:]}")
