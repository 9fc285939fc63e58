"""The control plane of the tests tells right from wrong, so that what other tests conclude from it holds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from tests.cluster.crds import APPLY
from tests.cluster.kwok import GPU, fake_nodes
from tests.cluster.plane import Plane
from tests.support.programs import wait_for

pytestmark = pytest.mark.cluster

SECONDS = 60
GROUP = "monitoring.coreos.com"


def restricted(name: str, *, image: str = "affinage.local/demo:1", gpus: int = 0, **spec: Any) -> dict[str, Any]:
    """A pod of the *restricted* standard."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "main", "image": image, "securityContext": security}
    if gpus:
        container["resources"] = {"limits": {GPU: str(gpus)}}
    allowed = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [container], "securityContext": allowed, **spec}}


def deployment(name: str, *, replicas: int, image: str = "affinage.local/demo:1") -> dict[str, Any]:
    pod = restricted(name, image=image)
    template = {"metadata": {"labels": pod["metadata"]["labels"]}, "spec": pod["spec"]}
    return {"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}}


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


@pytest.fixture
def apps(api: client.ApiClient) -> client.AppsV1Api:
    return client.AppsV1Api(api)


@pytest.fixture
def gpu_nodes(plane: Plane) -> Iterator[list[str]]:
    with fake_nodes(plane, 2, gpus=8, labels={"pool": "gpu"}, taints=({"key": GPU, "effect": "NoSchedule"},)) as names:
        yield names


def condition(pod: client.V1Pod, kind: str) -> client.V1PodCondition | None:
    return next((found for found in pod.status.conditions or [] if found.type == kind), None)


def is_ready(pod: client.V1Pod) -> bool:
    found = condition(pod, "Ready")
    return found is not None and found.status == "True"


def test_the_servers_have_the_pinned_version(api: client.ApiClient) -> None:
    assert client.VersionApi(api).get_code().git_version.startswith("v1.34.")


def test_a_restricted_pod_runs_and_a_service_finds_it(core: client.CoreV1Api, api: client.ApiClient, namespace: str) -> None:
    core.create_namespaced_pod(namespace, restricted("web"))
    core.create_namespaced_service(namespace, {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})
    wait_for(lambda: is_ready(core.read_namespaced_pod("web", namespace)), what="The pod is not ready", seconds=SECONDS)
    pod = core.read_namespaced_pod("web", namespace)
    assert pod.status.phase == "Running"

    def behind() -> set[str]:
        slices = client.DiscoveryV1Api(api).list_namespaced_endpoint_slice(namespace, label_selector="kubernetes.io/service-name=web")
        return {address for found in slices.items for one in found.endpoints or [] if one.conditions.ready for address in one.addresses}

    wait_for(behind, what="The service finds no pod", seconds=SECONDS)
    assert behind() == {pod.status.pod_ip}


def test_a_privileged_pod_is_refused_with_every_reason(core: client.CoreV1Api, namespace: str) -> None:
    container = {"name": "main", "image": "affinage.local/demo:1", "securityContext": {"privileged": True}}
    with pytest.raises(client.ApiException) as refused:
        core.create_namespaced_pod(namespace, {"metadata": {"name": "root"}, "spec": {"hostNetwork": True, "containers": [container]}})
    assert refused.value.status == 403
    said = json.loads(refused.value.body)["message"]
    for reason in (
        "restricted",
        "privileged",
        "host namespaces",
        "allowPrivilegeEscalation",
        "unrestricted capabilities",
        "runAsNonRoot",
        "seccompProfile",
    ):
        assert reason in said
    assert core.list_namespaced_pod(namespace).items == []


def test_a_deployment_becomes_ready_and_rolls_over(apps: client.AppsV1Api, core: client.CoreV1Api, namespace: str) -> None:
    apps.create_namespaced_deployment(namespace, deployment("web", replicas=3))

    def rolled_out() -> bool:
        found = apps.read_namespaced_deployment("web", namespace)
        seen = found.status.observed_generation == found.metadata.generation
        return bool(seen and found.status.updated_replicas == found.status.available_replicas == found.status.replicas == 3)

    wait_for(rolled_out, what="The deployment is not ready", seconds=SECONDS)
    before = {pod.metadata.uid for pod in core.list_namespaced_pod(namespace).items}
    apps.patch_namespaced_deployment("web", namespace, deployment("web", replicas=3, image="affinage.local/demo:2"))
    wait_for(rolled_out, what="The deployment does not roll over", seconds=SECONDS)
    after = [pod for pod in core.list_namespaced_pod(namespace).items if pod.metadata.deletion_timestamp is None]
    assert len(after) == 3
    assert before.isdisjoint(pod.metadata.uid for pod in after)


def test_an_image_that_is_broken_never_becomes_ready(apps: client.AppsV1Api, core: client.CoreV1Api, namespace: str) -> None:
    apps.create_namespaced_deployment(namespace, deployment("good", replicas=1))
    apps.create_namespaced_deployment(namespace, deployment("bad", replicas=1, image="affinage.local/broken:1"))

    def pods(name: str) -> list[client.V1Pod]:
        return list(core.list_namespaced_pod(namespace, label_selector=f"app={name}").items)

    def reasons() -> list[str]:
        containers = [container for pod in pods("bad") for container in pod.status.container_statuses or []]
        return [container.state.waiting.reason for container in containers if container.state.waiting]

    wait_for(lambda: reasons() == ["ErrImagePull"], what="The pod does not say why it waits", seconds=SECONDS)
    wait_for(lambda: [is_ready(pod) for pod in pods("good")] == [True], what="The other pod is not ready", seconds=SECONDS)
    time.sleep(2)  # more than twice what a good pod takes
    (bad,) = pods("bad")
    assert (bad.status.phase, is_ready(bad)) == ("Pending", False)
    assert not apps.read_namespaced_deployment("bad", namespace).status.available_replicas


def test_gpu_pods_beyond_what_the_nodes_have_stay_pending(gpu_nodes: list[str], core: client.CoreV1Api, namespace: str) -> None:
    tolerant = {"tolerations": [{"key": GPU, "operator": "Exists"}]}
    for number in range(5):
        core.create_namespaced_pod(namespace, restricted(f"train-{number}", gpus=4, **tolerant))

    def phases() -> list[str]:
        return sorted(pod.status.phase for pod in core.list_namespaced_pod(namespace).items)

    wait_for(lambda: phases().count("Running") == 4, what="Four pods of four GPUs fit on two nodes of eight", seconds=SECONDS)
    waiting = [pod for pod in core.list_namespaced_pod(namespace).items if pod.status.phase == "Pending"]
    placed = [pod.spec.node_name for pod in core.list_namespaced_pod(namespace).items if pod.spec.node_name]
    assert sorted(placed) == sorted(gpu_nodes * 2)
    assert len(waiting) == 1
    said = condition(waiting[0], "PodScheduled")
    assert said is not None
    assert (said.status, said.reason) == ("False", "Unschedulable")
    assert f"Insufficient {GPU}" in said.message


def test_a_pod_that_does_not_tolerate_the_gpu_taint_goes_elsewhere(gpu_nodes: list[str], core: client.CoreV1Api, namespace: str) -> None:
    core.create_namespaced_pod(namespace, restricted("train", gpus=1))

    def refused() -> str:
        said = condition(core.read_namespaced_pod("train", namespace), "PodScheduled")
        return said.message if said is not None and said.status == "False" else ""

    assert "untolerated taint" in wait_for(refused, what="The scheduler says nothing", seconds=SECONDS)


def test_the_pods_of_a_job_end(api: client.ApiClient, namespace: str) -> None:
    batch = client.BatchV1Api(api)
    pod = restricted("index", restartPolicy="Never")
    batch.create_namespaced_job(namespace, {"metadata": {"name": "index"}, "spec": {"completions": 2, "template": {"spec": pod["spec"]}}})
    wait_for(lambda: batch.read_namespaced_job("index", namespace).status.succeeded == 2, what="The job does not end", seconds=SECONDS)


def test_an_eviction_honours_the_disruption_budget(
    apps: client.AppsV1Api, core: client.CoreV1Api, api: client.ApiClient, namespace: str
) -> None:
    apps.create_namespaced_deployment(namespace, deployment("web", replicas=2))
    policy = client.PolicyV1Api(api)
    budget = {"metadata": {"name": "web"}, "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}}
    policy.create_namespaced_pod_disruption_budget(namespace, budget)
    wait_for(
        lambda: (policy.read_namespaced_pod_disruption_budget("web", namespace).status or budget).current_healthy == 2,
        what="The budget does not count two healthy pods",
        seconds=SECONDS,
    )
    name = core.list_namespaced_pod(namespace).items[0].metadata.name
    with pytest.raises(client.ApiException) as refused:
        core.create_namespaced_pod_eviction(name, namespace, {"metadata": {"name": name}})
    assert refused.value.status == 429
    assert "disruption budget" in refused.value.body


MONITOR = {
    "apiVersion": f"{GROUP}/v1",
    "kind": "ServiceMonitor",
    "metadata": {"name": "web"},
    "spec": {"selector": {"matchLabels": {"app": "web"}}, "endpoints": [{"port": "metrics", "interval": "30s"}]},
}


def test_a_service_monitor_is_accepted_and_a_misspelt_one_refused(api: client.ApiClient, namespace: str) -> None:
    objects = client.CustomObjectsApi(api)
    objects.patch_namespaced_custom_object(GROUP, "v1", namespace, "servicemonitors", "web", MONITOR, **APPLY)
    assert objects.get_namespaced_custom_object(GROUP, "v1", namespace, "servicemonitors", "web")["spec"] == MONITOR["spec"]
    wrong = {**MONITOR, "spec": {**MONITOR["spec"], "endpoints": [{"port": "metrics", "intervall": "30s"}]}}
    with pytest.raises(client.ApiException, match="intervall"):
        objects.patch_namespaced_custom_object(GROUP, "v1", namespace, "servicemonitors", "web", wrong, **APPLY)
    wrong["spec"]["endpoints"] = [{"port": "metrics", "interval": "half a minute"}]
    with pytest.raises(client.ApiException, match="interval"):
        objects.patch_namespaced_custom_object(GROUP, "v1", namespace, "servicemonitors", "web", wrong, **APPLY)


def test_a_rule_without_an_expression_is_refused(api: client.ApiClient, namespace: str) -> None:
    objects = client.CustomObjectsApi(api)
    rule = {"alert": "Slow", "expr": "up == 0", "for": "5m", "labels": {"severity": "page"}}
    group = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "web"},
        "spec": {"groups": [{"name": "web", "rules": [rule]}]},
    }
    objects.create_namespaced_custom_object(GROUP, "v1", namespace, "prometheusrules", group)
    del rule["expr"]
    group["metadata"] = {"name": "other"}
    with pytest.raises(client.ApiException, match="expr: Required value"):
        objects.create_namespaced_custom_object(GROUP, "v1", namespace, "prometheusrules", group)


def test_a_service_account_without_a_role_may_do_nothing(core: client.CoreV1Api, plane: Plane, namespace: str) -> None:
    token = core.create_namespaced_service_account_token("default", namespace, {"spec": {"expirationSeconds": 600}}).status.token
    with plane.api() as other:
        other.configuration.cert_file = other.configuration.key_file = None
        other.configuration.api_key = {"authorization": f"Bearer {token}"}
        with client.ApiClient(other.configuration) as unprivileged, pytest.raises(client.ApiException) as refused:
            client.CoreV1Api(unprivileged).list_namespaced_pod(namespace)
    assert refused.value.status == 403
    assert f"system:serviceaccount:{namespace}:default" in refused.value.body
