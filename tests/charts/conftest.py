"""The chart, rendered by Helm itself and without a cluster."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator

import helm_python
import pytest

from tests.charts.rendering import CHART, RELEASE, Values, rendered
from tests.support.manifests import Manifests

Render = Callable[..., Manifests]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Write what is rendered now into tests/charts/golden; read the diff.")


@pytest.fixture(scope="session")
def chart() -> Iterator[helm_python.Chart]:
    """The chart, read once."""
    with helm_python.Chart.load(CHART) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def render(chart: helm_python.Chart) -> Render:
    """What the chart makes of the smallest values and these, by dotted name: `render({"gateway.replicas": 3})`."""

    known: dict[str, Manifests] = {}

    def with_values(values: Values | None = None, *, release: str = RELEASE) -> Manifests:
        key = json.dumps([values, release], sort_keys=True)
        if key not in known:
            known[key] = rendered(chart, values or {}, release=release)
        # A test may do what it wants with its own.
        return copy.deepcopy(known[key])

    return with_values
