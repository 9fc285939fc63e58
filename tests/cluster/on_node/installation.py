"""An installation as docs/how-to/install.md makes one, on a real node with the real images, and what a user and an operator do with it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import helm_python
import openai
import yaml
from kubernetes import client
from kubernetes.stream import stream

from affinage.identity.keys import create_key
from affinage.wiring import Affinage
from tests.charts.rendering import RELEASE, merged, nested
from tests.cluster import images
from tests.cluster.node import STATE, Node
from tests.cluster.parts import Parts, outside
from tests.cluster.plane import usable
from tests.support.openai_server import OpenAIServer, serve_openai
from tests.support.process import CANTEEN, LEAVE, PERMITS
from tests.support.programs import wait_for
from tests.support.tiny_llama import write_tiny_llama

SECONDS = 180
NAMESPACE = "affinage"
BASE = "tiny"
DOCUMENTS = {"public/permits.md": PERMITS, "public/cantine.md": CANTEEN, "hr/leave.md": LEAVE}
STREAM_SECONDS = 7
# Longer than a gateway serves on after it is told to end, 5 s: most of what is under way then must be finished after that.
RECIPE = """kind = "sft"
rank = 8
alpha = 16
dropout = 0.0
last_layers = 2
target_modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
learning_rate = 2e-2
schedule = "cosine"
warmup_ratio = 0.05
epochs = 5
batch = 8
micro_batch = 8
max_tokens = 2048
max_grad_norm = 1.0
checkpoint_steps = 50
"""
SCHEMA = {"type": "object", "properties": {"next": {"enum": ["reply", "close"]}}, "required": ["next"], "additionalProperties": False}
ROLLOUT = {"shares": [0.5], "min_units": 0, "min_days": 0}


def declared(slow_engine: str) -> dict[str, Any]:
    """Documents that are indexed every minute; assistants that quote, that learn, and that take long."""
    structured = {"task": "extract", "sources": [], "prompt": "extract-json", "answer_schema": SCHEMA}
    tuning = {"min_examples": 100, "recipe": "/srv/documents/recipe.toml"}
    access = [{"match": "public/**", "allow": ["everyone"]}, {"match": "hr/**", "allow": ["group:hr"]}]
    handbook = {"name": "handbook", "kind": "folder", "path": "/srv/documents/handbook", "schedule": "* * * * *", "access": access}
    return {
        "sources": [handbook],
        "assistants": [
            {"name": "guichet", "sources": ["handbook"]},
            {"name": "letters", "engine": BASE, "max_output_tokens": 32, "tuning": tuning, "rollout": ROLLOUT, **structured},
            {"name": "slow", "engine": slow_engine, **structured},
        ],
    }


@dataclass
class Installation:
    """The release and what it talks to."""

    parts: Parts
    api: client.ApiClient
    kubeconfig: Path
    helm: helm_python.Config
    values: dict[str, Any]
    app: Affinage
    """The same installation from outside, for what only the database knows."""

    @property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)

    def pods(self, component: str) -> list[client.V1Pod]:
        """Those that are not ending."""
        found = self.core.list_namespaced_pod(NAMESPACE, label_selector=f"app.kubernetes.io/component={component}").items
        return [pod for pod in found if not pod.metadata.deletion_timestamp]

    def inside(self, pod: client.V1Pod, *command: str) -> str:
        """What a command says in a pod."""
        said: str = stream(
            self.core.connect_get_namespaced_pod_exec, pod.metadata.name, pod.metadata.namespace, command=list(command),
            stdin=False, stdout=True, stderr=True, tty=False,
        )  # fmt: skip
        return said

    @property
    def gateway(self) -> str:
        """Address of its Service."""
        return str(self.core.read_namespaced_service(f"{RELEASE}-gateway", NAMESPACE).spec.cluster_ip)

    def rollout(self, verb: str, *arguments: object, changed: dict[str, Any] | None = None, code: int = 0) -> dict[str, Any]:
        """One call of `affinage rollout`; `changed` are values by their dotted names, None leaves the values out."""
        given: list[object] = []
        if changed is not None:
            file = self.parts.folder / "values.yaml"
            file.write_text(yaml.safe_dump(merged(self.values, nested(changed))))
            given = ["-f", file]
        where = ["--kubeconfig", self.kubeconfig, "--namespace", NAMESPACE]
        return self.parts.affinage("rollout", verb, *map(str, [*given, *where, *arguments]), code=code)

    def key(self, user: str) -> str:
        """A new API key of a user."""
        with self.app.database.write() as connection:
            return create_key(connection, user=user, now=self.app.now(), new_id=self.app.new_id)[1]

    def users(self, *names: str) -> list[openai.OpenAI]:
        """What their programs have; they share their connections, since a pool for each takes most of the processor."""
        first = openai.OpenAI(base_url=f"http://{self.gateway}:8400/v1", api_key=self.key(names[0]), max_retries=0, timeout=60)
        return [first, *(first.with_options(api_key=self.key(name)) for name in names[1:])]

    def until(self, true: Callable[[], Any], *, what: str, limit: float = SECONDS) -> float:
        """Seconds until that is true."""
        began = time.monotonic()
        try:
            wait_for(true, what=what, seconds=limit)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.state()}") from error
        return time.monotonic() - began

    def scraped(self) -> list[dict[str, Any]]:
        """What the chart's ServiceMonitors select now, as Prometheus is configured without an operator."""
        found = []
        objects = client.CustomObjectsApi(self.api)
        for monitor in objects.list_namespaced_custom_object("monitoring.coreos.com", "v1", NAMESPACE, "servicemonitors")["items"]:
            wanted = ",".join(f"{key}={value}" for key, value in monitor["spec"]["selector"]["matchLabels"].items())
            for service in self.core.list_namespaced_service(NAMESPACE, label_selector=wanted).items:
                subsets = self.core.read_namespaced_endpoints(service.metadata.name, NAMESPACE).subsets or []
                for asked in monitor["spec"]["endpoints"]:
                    targets = [
                        f"{address.ip}:{port.port}" for subset in subsets for port in subset.ports if port.name == asked["port"]
                        for address in subset.addresses or []
                    ]  # fmt: skip
                    name = f"{monitor['metadata']['name']}/{service.metadata.name}"
                    found.append({"job_name": name, "metrics_path": asked["path"], "static_configs": [{"targets": targets}]})
        return found

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


@contextmanager
def installation(node: Node, api: client.ApiClient, kubeconfig: Path, folder: Path, *, imported: Future[float]) -> Iterator[Installation]:
    """Everything runs and every pod is ready."""
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    with outside(folder, address=node.address) as parts, serve_openai(node.address) as slow:
        _take_long(slow)
        _volumes(core)
        wait_for(lambda: usable(api, NAMESPACE), what="The namespace cannot be used", seconds=60)
        with helm_python.Config(kubeconfig_path=kubeconfig, namespace=NAMESPACE, qps=200, burst_limit=400) as helm:
            running = Installation(parts, api, kubeconfig, helm, _values(core, parts, slow.url), parts.installation())
            import_seconds = imported.result()
            began = time.monotonic()
            applied = running.rollout("apply", "--timeout", SECONDS, changed={})
            assert applied["ready"]
            sys.stderr.write(f"\nImages imported in {import_seconds:.0f} s; installed and ready in {time.monotonic() - began:.0f} s.\n")
            yield running
            running.app.close()
            helm.uninstall(RELEASE, timeout=SECONDS)
    core.delete_namespace(NAMESPACE)
    for name in ("documents", "weights", "packages"):
        core.delete_persistent_volume(name)


def import_images(node: Node) -> float:
    """Make the project's images known to the node; the seconds it took."""
    began = time.monotonic()
    for name in images.LOCKS:
        node.import_image(images.archive(name))
    return time.monotonic() - began


def _take_long(slow: OpenAIServer) -> None:
    answer = '{"next": "reply"}'
    slow.answer = lambda _: answer  # type: ignore[method-assign]
    slow.pause_seconds = STREAM_SECONDS / len(answer)


def _volumes(core: client.CoreV1Api) -> None:
    """Documents, weights and packages, as an administrator gives them to the namespace."""
    documents = STATE / "documents"
    for name, text in DOCUMENTS.items():
        (documents / "handbook" / name).parent.mkdir(parents=True, exist_ok=True)
        (documents / "handbook" / name).write_text(text, encoding="utf-8")
    (documents / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    for file in write_tiny_llama(STATE / "weights" / BASE, context_tokens=2048).iterdir():
        file.chmod(0o644)  # the pods run as another user
    modes, size = ["ReadOnlyMany"], {"storage": "1Mi"}
    for name, folder in {"documents": documents, "weights": STATE / "weights", "packages": images.packages()}.items():
        source = {"hostPath": {"path": str(folder)}, "capacity": size, "accessModes": modes, "storageClassName": ""}
        core.create_persistent_volume({"metadata": {"name": name}, "spec": source})
        claim = {"accessModes": modes, "storageClassName": "", "volumeName": name, "resources": {"requests": size}}
        core.create_namespaced_persistent_volume_claim(NAMESPACE, {"metadata": {"name": name}, "spec": claim})


def _values(core: client.CoreV1Api, parts: Parts, slow_engine: str) -> dict[str, Any]:
    """Values of the installation, and the Secrets that they name."""
    url, key = parts.environment["AFFINAGE_DATABASE_URL"], os.environ["AWS_ACCESS_KEY_ID"]
    core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": "database"}, "stringData": {"url": url}})
    keys = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": os.environ["AWS_SECRET_ACCESS_KEY"]}
    core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": "blobs"}, "stringData": keys})
    outside_engine = urlsplit(slow_engine)
    small = {
        **{f"{component}.resources.requests": {"cpu": "50m", "memory": "64Mi"} for component in COMPONENTS},
        **{f"{component}.resources.limits.cpu": "1" for component in ("embedder", "worker", f"generators.{BASE}")},
        **{f"images.{image}.pullPolicy": "Never" for image in images.LOCKS},
        "embedder.replicas": 1,
        "controller.replicas": 1,
        "generators.smollm2": None,
        f"generators.{BASE}": {"engine": BASE, "precision": "float32", "replicas": 2, "minReadySeconds": 5},
        f"generators.{BASE}.weights.existingClaim": "weights",
        "worker.weights.existingClaim": "weights",
        "worker.documents.existingClaim": "documents",
        "packages.existingClaim": "packages",
        "database.existingSecret": "database",
        "registry.url": parts.mlflow_url,
        "vectors.url": parts.environment["AFFINAGE_VECTORS_URL"],
        "vectors.grpcPort": int(parts.environment["AFFINAGE_VECTORS_GRPC_PORT"]),
        "blobs": {"url": parts.environment["AFFINAGE_BLOBS_URL"], "endpointUrl": parts.s3_url, "existingSecret": "blobs"},
        "prefect.apiUrl": parts.environment["PREFECT_API_URL"],
        "gateway.egressHosts": [outside_engine.hostname],
        "networkPolicy.extraEgress.gateway": [
            {"to": [{"ipBlock": {"cidr": f"{outside_engine.hostname}/32"}}], "ports": [{"port": outside_engine.port, "protocol": "TCP"}]}
        ],
        "monitoring.serviceMonitor.enabled": True,
        "declarations": declared(slow_engine),
    }
    found: dict[str, Any] = {}
    for name, value in small.items():
        found = merged(found, nested({name: value}))
    return found


COMPONENTS = ("gateway", "controller", "embedder", "worker", "migration", f"generators.{BASE}")
