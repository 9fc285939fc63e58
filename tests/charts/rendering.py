"""From values to manifests, as `helm install` would make them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

from tests.support.manifests import Manifests

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "affinage"
RELEASE = "affinage"
NAMESPACE = "tenant"
Values = Mapping[str, Any]


def smallest() -> dict[str, Any]:
    """The smallest values that install; README.md shows the same."""
    return nested(values_file("smallest"))


def everything() -> dict[str, Any]:
    """Values that turn on all that is off."""
    return merged(smallest(), values_file("everything"))


def values_file(name: str) -> dict[str, Any]:
    """A file of `values/`."""
    found = yaml.safe_load((Path(__file__).parent / "values" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def nested(values: Values) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        place = out
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return out


def merged(base: Values, other: Values) -> dict[str, Any]:
    """Helm's own merge: maps are joined, all else is replaced."""
    out = dict(base)
    for key, value in other.items():
        before = out.get(key)
        out[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return out


def texts(chart: helm_python.Chart, values: Values, *, release: str = RELEASE, namespace: str = NAMESPACE) -> dict[str, str]:
    """Each template's text by its path, after the schema, as in an installation."""
    given = dict(values)
    chart.validate_schema(given)
    return {name.removeprefix("affinage/templates/"): text for name, text in chart.render(given, name=release, namespace=namespace).items()}


def rendered(chart: helm_python.Chart, values: Values, *, release: str = RELEASE, namespace: str = NAMESPACE) -> Manifests:
    """The objects that the smallest values and `values` make."""
    found = texts(chart, merged(smallest(), nested(values)), release=release, namespace=namespace)
    objects = [one for name, text in found.items() if name.endswith(".yaml") for one in yaml.load_all(text, yaml.CSafeLoader) if one]
    return Manifests(objects)
