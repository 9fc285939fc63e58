"""A rollout under load on real pods: the measure by which the chart's pods are judged tells a careful server from a careless one."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from kubernetes import client

from tests.cluster.node import PYTHON, Node
from tests.support.load import Load, under_load
from tests.support.programs import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.node]

SECONDS = 90
STREAM_SECONDS = 3
# Longer than the least grace of the kubelet, 2 s: a shorter stream would end before its server is killed.
SERVER = """
import http.server, os, signal, threading, time

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        if self.path == "/stream":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range({stream_seconds} * 10):
                self.wfile.write(b"5\\r\\ntoken\\r\\n")
                time.sleep(0.1)
            self.wfile.write(b"0\\r\\n\\r\\n")
        else:
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # closing waits for the answers under way
    request_queue_size = 128

server = Server(("", 8080), Answer)
finish = lambda *_: threading.Thread(target=server.shutdown).start()
signal.signal(signal.SIGTERM, finish if {careful} else lambda *_: os._exit(0))
server.serve_forever()
server.server_close()
"""


def deployment(*, careful: bool, version: str) -> dict[str, Any]:
    """Two pods; the careful ones serve on while the cluster forgets them, then finish what is under way."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container = {
        "name": "main",
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "securityContext": security,
        "command": ["python3.11", "-c", SERVER.format(stream_seconds=STREAM_SECONDS, careful=careful)],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        **({"lifecycle": {"preStop": {"sleep": {"seconds": 3}}}} if careful else {}),
    }
    allowed = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {"containers": [container], "securityContext": allowed, "terminationGracePeriodSeconds": 15 if careful else 1}
    template = {"metadata": {"labels": {"app": "web"}, "annotations": {"version": version}}, "spec": pod}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"metadata": {"name": "web"}, "spec": spec}


def rolled_over_under_load(api: client.ApiClient, namespace: str, *, careful: bool) -> Load:
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)

    def complete() -> bool:
        found = apps.read_namespaced_deployment("web", namespace)
        seen = found.status.observed_generation == found.metadata.generation
        pods = core.list_namespaced_pod(namespace, label_selector="app=web").items
        return bool(seen and found.status.updated_replicas == found.status.available_replicas == found.status.replicas == len(pods) == 2)

    apps.create_namespaced_deployment(namespace, deployment(careful=careful, version="1"))
    core.create_namespaced_service(
        namespace, {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}
    )
    wait_for(complete, what="The pods are not ready", seconds=SECONDS)
    address = core.read_namespaced_service("web", namespace).spec.cluster_ip
    time.sleep(2)  # the rule of kube-proxy comes a moment after the pods are ready
    with under_load(address, 80, clients=4, streams=8, stream_path="/stream") as load:
        wait_for(lambda: load.streamed, what="No stream comes through", seconds=SECONDS)
        apps.patch_namespaced_deployment("web", namespace, deployment(careful=careful, version="2"))
        wait_for(complete, what="The rollout does not end", seconds=SECONDS)
    print(json.dumps({"careful": careful, "answered": load.answered, "streamed": load.streamed, "lost": len(load.lost)}))  # noqa: T201
    return load


def test_a_careful_server_loses_nothing_in_a_rollout(node: Node, api: client.ApiClient, namespace: str) -> None:
    load = rolled_over_under_load(api, namespace, careful=True)
    assert load.lost == []
    assert load.answered > 200
    assert load.streamed > 8


def test_a_careless_server_is_caught(node: Node, api: client.ApiClient, namespace: str) -> None:
    load = rolled_over_under_load(api, namespace, careful=False)
    assert any(line.startswith("/stream") for line in load.lost)
