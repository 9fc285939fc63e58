"""The schema is closed, and its errors name the value."""

from __future__ import annotations

from typing import Any

import helm_python
import pytest

from tests.charts.rendering import merged, nested, smallest

REFUSED = [
    ({"gatway.replicas": 2}, "additional properties 'gatway' not allowed"),
    ({"gateway.replica": 2}, "at '/gateway': additional properties 'replica' not allowed"),
    ({"gateway.replicas": "two"}, "at '/gateway/replicas': got string, want integer"),
    ({"gateway.replicas": -1}, "at '/gateway/replicas': minimum: got -1, want 0"),
    ({"gateway.logLevel": "TRACE"}, "at '/gateway/logLevel': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
    ({"gateway.preStopSleepSeconds": 301}, "at '/gateway/preStopSleepSeconds': maximum: got 301, want 300"),
    ({"gateway.resources": {"limits": {"memory": "1 GB"}}}, "at '/gateway/resources/limits/memory'"),
    ({"gateway.resources": {"claims": []}}, "at '/gateway/resources': additional properties 'claims' not allowed"),
    ({"images.gateway.tag": "latest"}, "at '/images/gateway/tag': 'not' failed"),
    ({"images.gateway.digest": "sha256:12"}, "at '/images/gateway/digest': 'sha256:12' does not match pattern"),
    ({"images.gateway.repository": ""}, "at '/images/gateway/repository'"),
    ({"images.controller.tag": "1"}, "at '/images': additional properties 'controller' not allowed"),
    ({"database.url": "postgresql://u:p@h/d"}, "at '/database': additional properties 'url' not allowed"),
    ({"registry.url": "mlflow:5000"}, "at '/registry/url': 'mlflow:5000' does not match pattern"),
    ({"registry.url": "http://user:password@mlflow:5000"}, "at '/registry/url'"),
    ({"vectors.grpcPort": 65536}, "at '/vectors/grpcPort': maximum: got 65,536, want 65,535"),
    ({"blobs.url": "/var/blobs"}, "at '/blobs/url': '/var/blobs' does not match pattern"),
    ({"generators": {"Big_Model": {"engine": "x"}}}, "at '/generators': additional properties 'Big_Model' not allowed"),
    ({"generators": {"big": {"runtime": "tgi"}}}, "at '/generators/big/runtime': value must be one of 'transformers', 'vllm'"),
    ({"generators": {"big": {"gpu": 1}}}, "at '/generators/big': additional properties 'gpu' not allowed"),
    ({"declarations": {"sources": [{"kind": "folder"}]}}, "at '/declarations/sources/0': missing property 'name'"),
    ({"declarations": {"source": []}}, "at '/declarations': additional properties 'source' not allowed"),
    ({"networkPolicy.clients": [{}]}, "at '/networkPolicy/clients/0': minProperties: got 0, want 1"),
    ({"networkPolicy.extraEgress.gateway": [{"ports": [{"port": 443}]}]}, "/extraEgress/gateway/0': missing property 'to'"),
    ({"networkPolicy.external": {"database": {"cidrs": ["db.example.org"]}}}, "at '/networkPolicy/external/database/cidrs/0'"),
    ({"monitoring.rules.availabilityTarget": 99.5}, "at '/monitoring/rules/availabilityTarget': exclusiveMaximum: got 99.5, want 1"),
    ({"monitoring.serviceMonitor.interval": 30}, "at '/monitoring/serviceMonitor/interval': got number, want string"),
    ({"serviceAccount.annotations": {"a": 1}}, "at '/serviceAccount/annotations/a': got number, want string"),
    ({"imagePullSecrets": ["registry"]}, "at '/imagePullSecrets/0': got string, want object"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "told"), REFUSED, ids=[next(iter(values)) for values, _ in REFUSED])
def test_a_wrong_value_is_refused_by_name(chart: helm_python.Chart, values: dict[str, Any], told: str) -> None:
    with pytest.raises(helm_python.HelmValuesError) as refused:
        chart.validate_schema(merged(smallest(), nested(values)))
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "values", [{"global.anything": 1}, {"gateway.replicas": 0}, {"gateway.resources": {"limits": {"cpu": 2}}}, {"generators": None}]
)
def test_what_is_meant_is_accepted(chart: helm_python.Chart, values: dict[str, Any]) -> None:
    chart.validate_schema(merged(smallest(), nested(values)))


def closed(schema: Any, where: str = "") -> list[str]:
    """Places of objects with named properties that would take others silently."""
    found = []
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("additionalProperties") is not False:
            found.append(where)
        for key, value in schema.items():
            found += closed(value, f"{where}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            found += closed(value, f"{where}/{number}")
    return found


def test_every_object_is_closed_but_declarations_that_apply_checks(chart: helm_python.Chart) -> None:
    opened = closed(chart.schema)
    assert opened == ["/properties/declarations/properties/sources/items", "/properties/declarations/properties/assistants/items"]
