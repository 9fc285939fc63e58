"""Network policies: closed by default, open exactly to the addresses in each process's environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.charts.conftest import Render
from tests.charts.rendering import values_file
from tests.support.manifests import Manifests, Object, containers, environment, selects

EVERYTHING = values_file("everything")
BOTH = pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["smallest", "everything"])
Labels = Mapping[str, str]


def pods(objects: Manifests) -> dict[str, Object]:
    """Pods by component."""
    return {pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod for _, pod in objects.pods()}


def policy(objects: Manifests, labels: Labels) -> Object:
    """The one policy of a pod."""
    (found,) = [one["spec"] for one in objects.all("NetworkPolicy") if selects(one["spec"]["podSelector"], labels)]
    return found


def lets(rules: list[Object], *, port: int, to: Labels | None, direction: str) -> bool:
    """Whether some rule opens `port` to pods of this release with these labels, or, without labels, to an address outside."""

    def peer_is_meant(peer: Mapping[str, Any]) -> bool:
        if to is None:
            return "ipBlock" in peer
        return set(peer) == {"podSelector"} and selects(peer["podSelector"], to)

    def opens(rule: Object) -> bool:
        peers = rule.get(direction)
        return any(entry["port"] == port for entry in rule["ports"]) and (peers is None or any(peer_is_meant(peer) for peer in peers))

    return any(opens(rule) for rule in rules)


@BOTH
def test_every_pod_is_closed_in_both_directions_by_one_policy(render: Render, values: dict[str, Any]) -> None:
    objects = render(values)
    for pod in pods(objects).values():
        found = policy(objects, pod["metadata"]["labels"])
        assert found["policyTypes"] == ["Ingress", "Egress"]
        for rule in [*found["ingress"], *found["egress"]]:
            assert rule["ports"], "a rule without ports opens all of them"
            assert rule.get("from", rule.get("to")) != [], "an empty list of peers means everybody"


@BOTH
def test_every_policy_is_of_a_pod(render: Render, values: dict[str, Any]) -> None:
    objects = render(values)
    for one in objects.all("NetworkPolicy"):
        assert any(selects(one["spec"]["podSelector"], pod["metadata"]["labels"]) for pod in pods(objects).values())


def addresses(pod: Object) -> set[tuple[str, int]]:
    """Hosts and ports that the environment of a pod names."""
    found = set()
    for container in containers(pod["spec"]):
        env = environment(container)
        texts = [value for value in env.values() if isinstance(value, str)]
        urls = [part.rsplit("=", 1)[-1] for text in texts for part in text.split(",") if "http" in part]
        for url in urls:
            parts = urlsplit(url)
            found.add((str(parts.hostname), parts.port or {"http": 80, "https": 443}[parts.scheme]))
        if "AFFINAGE_VECTORS_GRPC_PORT" in env:
            found.add((str(urlsplit(env["AFFINAGE_VECTORS_URL"]).hostname), int(env["AFFINAGE_VECTORS_GRPC_PORT"])))
        if "AFFINAGE_DATABASE_URL" in env:
            found.add(("database.invalid", 5432))
        if "AFFINAGE_BLOBS_URL" in env and "AFFINAGE_S3_ENDPOINT_URL" not in env:
            found.add(("s3.invalid", 443))
    return found


@BOTH
def test_a_process_reaches_what_its_environment_names_and_is_let_in_there(render: Render, values: dict[str, Any]) -> None:
    # The port that the values replace is tried in its own test.
    objects = render({**values, "networkPolicy": {**values.get("networkPolicy", {}), "external": {}}})
    everyone = pods(objects)
    services = {one["metadata"]["name"]: one["spec"] for one in objects.all("Service")}
    reached: dict[str, set[str]] = {}
    for component, pod in everyone.items():
        if component == "test":
            continue
        egress = policy(objects, pod["metadata"]["labels"])["egress"]
        for host, port in addresses(pod):
            service = services.get(host)
            if service is None:
                assert lets(egress, port=port, to=None, direction="to"), f"{component} to {host}:{port}"
                continue
            (target,) = [p for p in everyone.values() if selects({"matchLabels": service["selector"]}, p["metadata"]["labels"])]
            assert lets(egress, port=port, to=target["metadata"]["labels"], direction="to"), f"{component} to {host}:{port}"
            ingress = policy(objects, target["metadata"]["labels"])["ingress"]
            assert lets(ingress, port=port, to=pod["metadata"]["labels"], direction="from"), f"{host}:{port} from {component}"
            reached.setdefault(component, set()).add(host)
    assert {"affinage-embedder", "affinage-generator-smollm2"} <= reached["gateway"]


@BOTH
def test_model_servers_have_nobody_to_send_to(render: Render, values: dict[str, Any]) -> None:
    objects = render(values)
    models = [pod for component, pod in pods(objects).items() if component == "embedder" or component.startswith("generator-")]
    assert models
    for pod in models:
        assert addresses(pod) == set()
        assert policy(objects, pod["metadata"]["labels"])["egress"] == []


@pytest.mark.parametrize(
    ("values", "component", "ports"),
    [
        ({"registry.url": "https://mlflow.example.org"}, "controller", {443}),
        ({"registry.url": "http://mlflow.example.org/path:1"}, "controller", {80}),
        ({"vectors.url": "http://weaviate:8081", "vectors.grpcPort": 50052}, "gateway", {8081, 50052}),
        ({"blobs.endpointUrl": "https://s3.example.org:9000"}, "gateway", {9000}),
        ({"blobs.endpointUrl": ""}, "gateway", {443}),
        ({"prefect.apiUrl": "http://prefect:4201/api"}, "worker", {4201}),
        ({"networkPolicy.external.database.ports": [6432]}, "migration", {6432}),
        ({"registry.url": "http://mlflow", "networkPolicy.external.registry.ports": [5000]}, "worker", {5000}),
    ],
)
def test_ports_outside_are_those_of_the_addresses(render: Render, values: dict[str, Any], component: str, ports: set[int]) -> None:
    objects = render(values)
    egress = policy(objects, pods(objects)[component]["metadata"]["labels"])["egress"]
    for port in ports:
        assert lets(egress, port=port, to=None, direction="to")


def test_only_what_needs_the_registry_or_the_scheduler_reaches_it(render: Render) -> None:
    objects = render()
    for component, pod in pods(objects).items():
        egress = policy(objects, pod["metadata"]["labels"])["egress"]
        assert lets(egress, port=5000, to=None, direction="to") == (component in {"controller", "worker"})
        assert lets(egress, port=4200, to=None, direction="to") == (component == "worker")


def test_ranges_of_addresses_narrow_a_server_outside(render: Render) -> None:
    objects = render({"networkPolicy.external.database.cidrs": ["10.0.8.0/24", "10.0.9.0/24"]})
    egress = policy(objects, pods(objects)["gateway"]["metadata"]["labels"])["egress"]
    (rule,) = [rule for rule in egress if rule["ports"] == [{"port": 5432, "protocol": "TCP"}]]
    assert rule["to"] == [{"ipBlock": {"cidr": "10.0.8.0/24"}}, {"ipBlock": {"cidr": "10.0.9.0/24"}}]


def test_the_gateway_is_open_to_all_until_clients_are_named(render: Render) -> None:
    def doors(values: dict[str, Any]) -> list[Object]:
        objects = render(values)
        return [
            rule for rule in policy(objects, pods(objects)["gateway"]["metadata"]["labels"])["ingress"] if rule["ports"][0]["port"] == 8400
        ]

    (open_door,) = doors({})
    assert "from" not in open_door
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}
    (door,) = doors({"networkPolicy.clients": [peer]})
    assert peer in door["from"]
    # `helm test` still comes in.
    assert lets([door], port=8400, to=pods(render())["test"]["metadata"]["labels"], direction="from")


def test_metrics_are_read_by_the_namespace_that_is_named_and_nobody_else(render: Render) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "observe"}}}
    for component, port in (("gateway", 8401), ("controller", 8401), ("embedder", 3000), ("generator-smollm2", 3000)):
        objects = render({"networkPolicy.monitoring": [peer]})
        ingress = policy(objects, pods(objects)[component]["metadata"]["labels"])["ingress"]
        assert {"ports": [{"port": port, "protocol": "TCP"}], "from": [peer]} in ingress
        objects = render({"networkPolicy.monitoring": []})
        ingress = policy(objects, pods(objects)[component]["metadata"]["labels"])["ingress"]
        assert not any("namespaceSelector" in peer for rule in ingress for peer in rule.get("from", []))


def test_without_policies_there_is_none(render: Render) -> None:
    assert render({"networkPolicy.enabled": False}).all("NetworkPolicy") == []


def test_further_rules_go_to_their_component_only(render: Render) -> None:
    rule = {"to": [{"ipBlock": {"cidr": "10.0.9.7/32"}}], "ports": [{"port": 8443, "protocol": "TCP"}]}
    for component in ("gateway", "controller", "worker"):
        objects = render({f"networkPolicy.extraEgress.{component}": [rule]})
        having = {name for name, pod in pods(objects).items() if rule in policy(objects, pod["metadata"]["labels"])["egress"]}
        assert having == {component}
