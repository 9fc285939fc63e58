"""Pods that run: what only a real node can show."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes import client

from tests.cluster.node import PYTHON, Node
from tests.support.programs import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.node]

SECONDS = 60
SERVER = """
import http.server, socket

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(socket.gethostname().encode())

http.server.ThreadingHTTPServer(("", 8080), Answer).serve_forever()
"""
# A rule of kube-proxy and a name appear a moment after the Service.
ASK = """
import time, urllib.request

def ask(url):
    for _ in range(100):
        try:
            return urllib.request.urlopen(url, timeout=5).read().decode()
        except OSError as error:
            last = error
            time.sleep(0.1)
    return f"{{url}}: {{last}}"

print(ask("http://{address}/"), ask("http://web.{namespace}.svc.cluster.local/"), sep="\\n")
"""


def pod(name: str, program: str, *, probe: bool = False, **spec: Any) -> dict[str, Any]:
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container: dict[str, Any] = {"name": "main", "image": PYTHON, "imagePullPolicy": "Never", "securityContext": security}
    container["command"] = ["python3.11", "-c", program]
    if probe:
        container["readinessProbe"] = {"httpGet": {"port": 8080}, "periodSeconds": 1}
    allowed = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": allowed, "terminationGracePeriodSeconds": 1, **spec}
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def test_a_pod_answers_by_its_service(node: Node, api: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api)
    core.create_namespaced_pod(namespace, pod("web", SERVER, probe=True))
    core.create_namespaced_service(
        namespace, {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}
    )

    def ready() -> bool:
        found = core.read_namespaced_pod("web", namespace).status
        return any(one.type == "Ready" and one.status == "True" for one in found.conditions or [])

    wait_for(ready, what="The pod is not ready", seconds=SECONDS)
    address = core.read_namespaced_service("web", namespace).spec.cluster_ip
    core.create_namespaced_pod(namespace, pod("ask", ASK.format(address=address, namespace=namespace), restartPolicy="Never"))

    def ended() -> str:
        phase = core.read_namespaced_pod("ask", namespace).status.phase
        return phase if phase in {"Succeeded", "Failed"} else ""

    phase = wait_for(ended, what="The asking pod does not end", seconds=SECONDS)
    said = core.read_namespaced_pod_log("ask", namespace)
    assert (phase, said.splitlines()) == ("Succeeded", ["web", "web"]), said
