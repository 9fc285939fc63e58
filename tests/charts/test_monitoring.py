"""What Prometheus and Grafana get: Services that are found, metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import helm_python
from prometheus_client import CollectorRegistry

from affinage.serving import chat
from affinage.telemetry import EngineMetrics, Metrics
from tests.charts.conftest import Render
from tests.charts.rendering import CHART, everything, texts, values_file
from tests.support.manifests import selects

EVERYTHING = values_file("everything")
NAME = re.compile(r"\baffinage_[a-z_]+")
LABELS = re.compile(r"\b(affinage_[a-z_]+)(?:\{([^}]*)\})?")
# Prometheus adds them when it reads a pod through a ServiceMonitor.
ADDED = {"namespace", "service", "pod", "job", "le"}


def declared() -> dict[str, set[str]]:
    """Name of each series to its labels, as the telemetry declares them."""
    found: dict[str, set[str]] = {}
    for declaring in (Metrics(), EngineMetrics("embedder"), EngineMetrics("generator")):
        for collector in vars(declaring).values():
            for metric in collector.values() if isinstance(collector, dict) else [collector]:
                if isinstance(metric, CollectorRegistry):
                    continue
                (family,) = metric.describe()
                endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
                found |= {f"{family.name}{ending}": set(metric._labelnames) for ending in endings}
    return found


def assert_declared(expression: str) -> None:
    known = declared()
    for name, matchers in LABELS.findall(expression):
        assert name in known, f"{name} is not declared in affinage.telemetry"
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= known[name] | ADDED, f"{name}{{{matchers}}}"


def test_the_telemetry_is_read_right() -> None:
    known = declared()
    assert known["affinage_gateway_requests_total"] == {"assistant", "arm", "outcome"}
    assert known["affinage_gateway_overhead_seconds_bucket"] == set()
    assert known["affinage_experiment_lift_lower"] == {"experiment"}
    assert known["affinage_generator_tokens_total"] == {"direction"}


def test_alerts_use_metrics_that_exist(render: Render) -> None:
    (rule,) = render(EVERYTHING).all("PrometheusRule")
    alerts = [alert for group in rule["spec"]["groups"] for alert in group["rules"]]
    assert [alert["alert"] for alert in alerts] == ["AffinageGatewayErrorBudgetBurn", "AffinageIndexStale", "AffinageIndexDeletionsHeld"]
    for alert in alerts:
        assert NAME.search(alert["expr"])
        assert_declared(alert["expr"])
        assert 'namespace="tenant"' in alert["expr"]
        assert alert["annotations"]["summary"]
        assert alert["labels"]["severity"] in {"critical", "warning"}
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_the_outcomes_of_an_alert_are_those_that_the_gateway_counts(render: Render) -> None:
    source = Path(chat.__file__).read_text(encoding="utf-8")
    (rule,) = render(EVERYTHING).all("PrometheusRule")
    expression = rule["spec"]["groups"][0]["rules"][0]["expr"]
    named = {name for group in re.findall(r'outcome[!=]~"([^"]+)"', expression) for name in group.split("|")}
    assert named == {"error", "unavailable", "broken", "cancelled", "refused"}
    for name in named:
        assert f'"{name}"' in source


def test_the_limits_of_the_alerts_come_from_the_values(render: Render) -> None:
    (rule,) = render({**EVERYTHING, "monitoring.rules.availabilityTarget": 0.999, "monitoring.rules.indexMaxAgeSeconds": 7200}).all(
        "PrometheusRule"
    )
    burn, stale, _ = rule["spec"]["groups"][0]["rules"]
    # 14.4 times one in a thousand.
    assert burn["expr"].count("> 0.0144\n") == 2
    assert "> 7200" in stale["expr"]


def test_every_service_monitor_finds_one_service_and_a_port_of_it(render: Render) -> None:
    objects = render(EVERYTHING)
    monitors = objects.all("ServiceMonitor")
    watched = set()
    for monitor in monitors:
        assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["tenant"]}
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        (service,) = [one for one in objects.all("Service") if selects(monitor["spec"]["selector"], one["metadata"]["labels"])]
        (endpoint,) = monitor["spec"]["endpoints"]
        (port,) = [port for port in service["spec"]["ports"] if port["name"] == endpoint["port"]]
        pods = [pod for _, pod in objects.pods() if selects({"matchLabels": service["spec"]["selector"]}, pod["metadata"]["labels"])]
        assert len(pods) == 1
        names = {p["name"]: p["containerPort"] for p in pods[0]["spec"]["containers"][0]["ports"]}
        assert names[port["targetPort"]] == port["port"]
        watched.add(service["metadata"]["name"])
    assert watched == {one["metadata"]["name"] for one in objects.all("Service")}
    assert len(watched) == len(monitors) == 6


def test_without_an_operator_nothing_of_it_is_made(render: Render) -> None:
    kinds = {kind for kind, _ in render().names()}
    assert not {"ServiceMonitor", "PrometheusRule"} & kinds


def dashboard(render: Render) -> dict[str, Any]:
    found = json.loads(render(EVERYTHING).one("ConfigMap", "affinage-dashboard")["data"]["affinage.json"])
    assert isinstance(found, dict)
    return found


def test_the_dashboard_shows_every_metric_and_no_other(render: Render) -> None:
    expressions = [target["expr"] for panel in dashboard(render)["panels"] for target in panel.get("targets", [])]
    for expression in expressions:
        assert_declared(expression)
    shown = set(NAME.findall(" ".join(expressions)))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in declared()}
    assert families == {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}


def test_the_panels_of_the_dashboard_do_not_overlap_and_say_what_they_show(render: Render) -> None:
    panels = dashboard(render)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & places
        places |= cells
        assert panel["type"] == "row" or (panel["description"].endswith(".") and panel["fieldConfig"]["defaults"]["unit"])


def test_the_dashboard_in_the_cluster_is_the_file_of_the_chart(chart: helm_python.Chart, render: Render) -> None:
    assert json.loads((CHART / "dashboards" / "affinage.json").read_text(encoding="utf-8")) == dashboard(render)
    assert render(EVERYTHING).one("ConfigMap", "affinage-dashboard")["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert "monitoring/configmap-dashboard.yaml" in texts(chart, everything())
