"""The chart on a real API server, scheduler and controllers: installed, upgraded, rolled back and removed by Helm.

The nodes are played, so pods become ready without running anything: what a pod does is tested elsewhere. An image whose name
contains "broken" never becomes ready.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import helm_python
import pytest
from kubernetes import client, dynamic

from tests.charts.rendering import CHART, RELEASE, Values, everything, merged, nested, rendered, smallest, values_file
from tests.cluster.crds import APPLY
from tests.cluster.kwok import GPU, fake_nodes
from tests.cluster.plane import Plane
from tests.support.manifests import Manifests
from tests.support.programs import wait_for

pytestmark = pytest.mark.cluster

SECONDS = 120
BROKEN_SECONDS = 6
# Long enough for the migration, and for a new pod to become ready if it could.
# A played pod is ready within two seconds.
QUICK = {"generators.smollm2.minReadySeconds": 1}
DECLARED = {"declarations": values_file("everything")["declarations"]}
# Events are kept for an hour, and each namespace has these two of its own.
NOT_OURS = {"Event", "ConfigMap kube-root-ca.crt", "ServiceAccount default"}


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


@pytest.fixture
def helm(kubeconfig: Path, namespace: str) -> Iterator[helm_python.Config]:
    with helm_python.Config(kubeconfig_path=kubeconfig, namespace=namespace, qps=200, burst_limit=400) as config:
        yield config


@pytest.fixture(scope="module")
def chart() -> Iterator[helm_python.Chart]:
    with helm_python.Chart.load(CHART) as loaded:
        yield loaded


def values(*more: Values) -> dict[str, Any]:
    """The smallest values, quick, and `more` by dotted name."""
    out = merged(smallest(), nested(QUICK))
    for given in more:
        out = merged(out, nested(given))
    return out


def install(helm: helm_python.Config, *more: Values) -> helm_python.config.Release:
    """Install and wait until every pod is ready."""
    return helm.install(CHART, RELEASE, values(*more), wait="watcher", timeout=SECONDS)


def ready(core: client.CoreV1Api, namespace: str, component: str = "") -> list[client.V1Pod]:
    """Ready pods of the release that are not ending."""
    selector = f"app.kubernetes.io/instance={RELEASE}" + (f",app.kubernetes.io/component={component}" if component else "")
    pods = core.list_namespaced_pod(namespace, label_selector=selector).items
    return [
        pod
        for pod in pods
        if not pod.metadata.deletion_timestamp and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
    ]


def images(pods: list[client.V1Pod]) -> set[str]:
    return {pod.spec.containers[0].image for pod in pods}


def state(helm: helm_python.Config) -> tuple[str, int]:
    found = helm.status(RELEASE)
    return found["status"], found["revision"]


def contents(api: client.ApiClient, namespace: str) -> set[str]:
    """Kind and name of every object in the namespace, of whatever type the API serves."""
    found = set()
    resources = dynamic.DynamicClient(api).resources
    for resource in resources.search():
        if not resource.namespaced or "list" not in resource.verbs or "/" in resource.name or resource.kind.endswith("List"):
            continue
        for item in resource.get(namespace=namespace).items:
            # What a controller made for an object goes with it, some moments later.
            found.add(f"{resource.kind} {item.metadata.name}")
    return {name for name in found if name.split()[0] not in NOT_OURS and name not in NOT_OURS}


@contextmanager
def watched(look: Any) -> Iterator[list[int]]:
    """The values of `look()`, taken again and again while the block lasts."""
    seen: list[int] = []
    done = threading.Event()

    def take() -> None:
        while not done.is_set():
            seen.append(look())
            done.wait(0.1)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def test_an_installation_is_admitted_as_restricted_and_comes_up(helm: helm_python.Config, core: client.CoreV1Api, namespace: str) -> None:
    install(helm, DECLARED)
    counts = {c: len(ready(core, namespace, c)) for c in ("gateway", "controller", "embedder", "generator-smollm2", "worker")}
    assert counts == {"gateway": 2, "controller": 2, "embedder": 2, "generator-smollm2": 1, "worker": 1}
    assert state(helm) == ("deployed", 1)


def test_a_service_finds_the_pods_it_is_for(
    helm: helm_python.Config, api: client.ApiClient, core: client.CoreV1Api, namespace: str
) -> None:
    install(helm)
    discovery = client.DiscoveryV1Api(api)
    for component, ports in (("gateway", {8400, 8401}), ("controller", {8401}), ("embedder", {3000}), ("generator-smollm2", {3000})):
        addresses = {pod.status.pod_ip for pod in ready(core, namespace, component)}

        def found(component: str = component, addresses: set[str] = addresses, ports: set[int] = ports) -> bool:
            label = f"kubernetes.io/service-name={RELEASE}-{component}"
            slices = discovery.list_namespaced_endpoint_slice(namespace, label_selector=label).items
            behind = {address for one in slices for end in one.endpoints or [] if end.conditions.ready for address in end.addresses}
            return behind == addresses and {port.port for one in slices for port in one.ports} == ports

        wait_for(found, what=f"The Service of {component} does not find its pods", seconds=SECONDS)


def test_the_migration_leaves_nothing_behind(helm: helm_python.Config, api: client.ApiClient, namespace: str) -> None:
    install(helm, DECLARED)
    wait_for(
        lambda: not [name for name in contents(api, namespace) if "migration" in name or "declarations" in name],
        what="The hook stays",
        seconds=SECONDS,
    )


def test_a_broken_image_is_rolled_back_and_the_old_pods_serve_on(helm: helm_python.Config, core: client.CoreV1Api, namespace: str) -> None:
    install(helm)
    before = {pod.metadata.name for pod in ready(core, namespace, "embedder")}
    with watched(lambda: len(ready(core, namespace, "embedder"))) as serving:
        with pytest.raises(helm_python.HelmError):
            helm.upgrade(
                CHART,
                RELEASE,
                values({"images.embedder.repository": "affinage/broken"}),
                wait="watcher",
                rollback_on_failure=True,
                timeout=BROKEN_SECONDS,
            )
    assert min(serving) >= 2
    assert len(serving) > BROKEN_SECONDS
    assert {pod.metadata.name for pod in ready(core, namespace, "embedder")} == before
    assert state(helm) == ("deployed", 3)
    assert helm.get_values(RELEASE) == values()


def test_a_migration_that_fails_changes_nothing(
    helm: helm_python.Config, api: client.ApiClient, core: client.CoreV1Api, namespace: str
) -> None:
    install(helm)
    before = {pod.metadata.name for pod in ready(core, namespace)}
    with pytest.raises(helm_python.HelmError):
        # The gateway's image is the migration's: the hook stands still before any Deployment is touched.
        helm.upgrade(CHART, RELEASE, values({"images.gateway.repository": "affinage/broken"}), wait="watcher", timeout=BROKEN_SECONDS)
    assert {pod.metadata.name for pod in ready(core, namespace)} == before
    gateway = client.AppsV1Api(api).read_namespaced_deployment(f"{RELEASE}-gateway", namespace)
    assert gateway.spec.template.spec.containers[0].image == "affinage/gateway:0.1.0"
    # And a good upgrade goes through although the hook of the bad one is still there.
    helm.upgrade(CHART, RELEASE, values({"images.gateway.tag": "0.1.1"}), wait="watcher", timeout=SECONDS)
    assert images(ready(core, namespace, "gateway")) == {"affinage/gateway:0.1.1"}


def test_an_upgrade_keeps_the_gateway_up_and_touches_only_what_changed(
    helm: helm_python.Config, core: client.CoreV1Api, namespace: str
) -> None:
    install(helm)
    before = {component: {p.metadata.name for p in ready(core, namespace, component)} for component in ("embedder", "worker", "gateway")}
    with watched(lambda: len(ready(core, namespace, "gateway"))) as serving:
        helm.upgrade(CHART, RELEASE, values({"gateway.logLevel": "DEBUG"}), wait="watcher", timeout=SECONDS)
    assert min(serving) >= 2
    after = {component: {p.metadata.name for p in ready(core, namespace, component)} for component in before}
    assert not after["gateway"] & before["gateway"]
    assert (after["embedder"], after["worker"]) == (before["embedder"], before["worker"])


def test_a_rollback_brings_the_former_revision_back(helm: helm_python.Config, core: client.CoreV1Api, namespace: str) -> None:
    install(helm)
    helm.upgrade(CHART, RELEASE, values({"images.gateway.tag": "0.1.1", "gateway.replicas": 3}), wait="watcher", timeout=SECONDS)
    assert (len(ready(core, namespace, "gateway")), images(ready(core, namespace, "gateway"))) == (3, {"affinage/gateway:0.1.1"})
    helm.rollback(RELEASE, version=1, wait="watcher", timeout=SECONDS)
    assert state(helm) == ("deployed", 3)
    wait_for(lambda: len(ready(core, namespace, "gateway")) == 2, what="The third gateway stays", seconds=SECONDS)
    assert images(ready(core, namespace, "gateway")) == {"affinage/gateway:0.1.0"}


def test_after_removal_nothing_is_left(helm: helm_python.Config, api: client.ApiClient, namespace: str) -> None:
    assert contents(api, namespace) == set()
    helm.install(CHART, RELEASE, merged(merged(everything(), nested(QUICK)), SMALL_ENOUGH), timeout=SECONDS)
    kinds = {name.split()[0] for name in contents(api, namespace)}
    assert {"Deployment", "NetworkPolicy", "ServiceMonitor", "PrometheusRule", "HorizontalPodAutoscaler", "PodDisruptionBudget"} <= kinds
    helm.uninstall(RELEASE, wait="watcher", timeout=SECONDS)
    wait_for(lambda: not contents(api, namespace), what="Something is left", seconds=SECONDS)


SMALL_ENOUGH = {"generators": {"large": None}, "embedder": {"gpus": 0}, "worker": {"gpus": 0, "documents": {"existingClaim": ""}}}
# No GPU and no volume on these nodes.
LARGE = {"engine": "package:large"}
# No volume either.


def manifests(chart: helm_python.Chart, namespace: str) -> Manifests:
    return rendered(chart, everything(), namespace=namespace)


def dry_run(api: client.ApiClient, one: dict[str, Any]) -> None:
    """A server-side apply that changes nothing; unlike `helm install --dry-run=server`, the API server checks every field."""
    cluster = dynamic.DynamicClient(api)
    resource = cluster.resources.get(api_version=one["apiVersion"], kind=one["kind"])
    namespace = one["metadata"]["namespace"]
    cluster.server_side_apply(
        resource, one, name=one["metadata"]["name"], namespace=namespace, dry_run="All", field_manager=APPLY["field_manager"]
    )


@pytest.fixture
def accounts(core: client.CoreV1Api, chart: helm_python.Chart, namespace: str) -> None:
    """The chart's service accounts: without its account a pod is refused before anything else is looked at."""
    for account in manifests(chart, namespace).all("ServiceAccount"):
        core.create_namespaced_service_account(namespace, account)


@pytest.mark.usefixtures("accounts")
def test_the_api_server_accepts_every_object(api: client.ApiClient, chart: helm_python.Chart, namespace: str) -> None:
    objects = [one for one in manifests(chart, namespace).objects if one["kind"] != "ServiceAccount"]
    assert {"ServiceMonitor", "PrometheusRule"} <= {one["kind"] for one in objects}
    for one in objects:
        dry_run(api, one)


def test_the_api_server_would_refuse_a_wrong_one(api: client.ApiClient, chart: helm_python.Chart, namespace: str) -> None:
    """The check that the check works: one damage for each way of being wrong."""
    found = manifests(chart, namespace)
    unknown = found.one("Deployment", f"{RELEASE}-gateway")
    unknown["spec"]["template"]["spec"]["containers"][0]["prestop"] = {}
    custom = found.one("ServiceMonitor", f"{RELEASE}-gateway")
    custom["spec"]["endpoints"][0]["intervall"] = "30s"
    value = found.one("NetworkPolicy", f"{RELEASE}-gateway")
    value["spec"]["policyTypes"] = ["Inward"]
    for one in (unknown, custom, value):
        with pytest.raises(client.ApiException):
            dry_run(api, one)


@pytest.mark.usefixtures("accounts")
def test_every_pod_template_is_admitted_as_restricted(core: client.CoreV1Api, chart: helm_python.Chart, namespace: str) -> None:
    """Those of hooks, of `helm test` and of the flows' jobs too: a Deployment itself is admitted with whatever pods it has."""
    pods = list(manifests(chart, namespace).pods())
    assert len(pods) == 11
    for number, (where, pod) in enumerate(pods):
        spec = {"restartPolicy": "Never", **pod["spec"]}
        if "job template" in where:
            spec["containers"][0] |= {"image": "affinage/worker:0.1.0", "args": ["run"]}
            # Prefect wants these where the API server drops them; the client of these tests refuses what it does not know.
            assert (spec.pop("parallelism"), spec.pop("completions")) == (1, 1)
        one = {"metadata": {"name": f"pod-{number}", "labels": pod["metadata"].get("labels", {})}, "spec": spec}
        core.create_namespaced_pod(namespace, one, dry_run="All")
        spec["containers"][0]["securityContext"].pop("capabilities")
        with pytest.raises(client.ApiException, match="violates PodSecurity"):
            core.create_namespaced_pod(namespace, one, dry_run="All")


def test_a_pool_with_gpus_finds_its_nodes_and_nothing_else_does(
    plane: Plane, helm: helm_python.Config, core: client.CoreV1Api, namespace: str
) -> None:
    taint = {"key": GPU, "value": "present", "effect": "NoSchedule"}
    with fake_nodes(plane, 2, gpus=4, taints=(taint,)) as nodes:
        install(helm, {"generators.large": {"gpus": 4, "replicas": 2, "minReadySeconds": 1, **LARGE}})
        assert {pod.spec.node_name for pod in ready(core, namespace, "generator-large")} == set(nodes)
        assert not [pod.metadata.name for pod in ready(core, namespace) if pod.spec.node_name in nodes and "large" not in pod.metadata.name]


def test_a_disruption_takes_one_gateway_at_a_time(
    helm: helm_python.Config, api: client.ApiClient, core: client.CoreV1Api, namespace: str
) -> None:
    install(helm, {"gateway.replicas": 3})
    policy = client.PolicyV1Api(api)

    def allowed() -> bool:
        return bool(policy.read_namespaced_pod_disruption_budget(f"{RELEASE}-gateway", namespace).status.disruptions_allowed == 1)

    wait_for(allowed, what="The budget does not count its pods", seconds=SECONDS)

    def evicted(pod: client.V1Pod) -> bool:
        try:
            core.create_namespaced_pod_eviction(pod.metadata.name, namespace, {"metadata": {"name": pod.metadata.name}})
        except client.ApiException as error:
            return bool(error.status != 429)
        return True

    # The next in the same moment would be the second at a time.
    assert [evicted(pod) for pod in ready(core, namespace, "gateway")][:2] == [True, False]
    wait_for(lambda: len(ready(core, namespace, "gateway")) == 3, what="The evicted gateway is not replaced", seconds=SECONDS)
