"""values.yaml explains every value and holds every value that the schema knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import helm_python
import yaml

from tests.charts.conftest import Render
from tests.charts.rendering import CHART

LINES = (CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
KEY = re.compile(r"^\s*[A-Za-z0-9_]+:")


def test_every_value_is_explained_by_a_full_sentence() -> None:
    for number, line in enumerate(LINES):
        # Inside an example list there is nothing of our own to explain.
        if not KEY.match(line) or line.lstrip().startswith(("matchLabels:", "kubernetes.io/")):
            continue
        comment: list[str] = []
        for before in reversed(LINES[:number]):
            if not before.lstrip().startswith("#"):
                break
            comment.insert(0, before.strip().lstrip("# "))
        text = " ".join(comment)
        assert re.match(r"[A-Z].*\.$", text), f"values.yaml:{number + 1}: {line.strip()}"


def leaves(schema: dict[str, Any], root: dict[str, Any], path: str = "") -> Iterator[str]:
    """Dotted names of the values that the schema allows, to where lists and free maps begin."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    if "properties" not in schema:
        yield path
    for key, value in schema.get("properties", {}).items():
        yield from leaves(value, root, f"{path}.{key}" if path else key)


def test_every_value_of_the_schema_stands_in_the_values(chart: helm_python.Chart) -> None:
    values = yaml.safe_load("\n".join(LINES))

    def present(path: str) -> bool:
        place: Any = values
        for part in path.split("."):
            if not isinstance(place, dict) or part not in place:
                return False
            place = place[part]
        return True

    schema = chart.schema
    assert schema
    # `global` belongs to Helm; the image of a pool and the bounds of resources are explained once.
    known = [path for path in leaves(schema, schema) if path != "global"]
    assert [path for path in known if not present(path) and not re.search(r"resources\.(requests|limits)$", path)] == []


def test_what_a_pool_leaves_out_is_as_in_the_pool_of_the_values(render: Render) -> None:
    objects = render({"generators": {"smollm2": None, "twin": {"engine": "package:smollm2"}}})
    stated = render().one("Deployment", "affinage-generator-smollm2")
    assumed = objects.one("Deployment", "affinage-generator-twin")
    assert yaml.safe_dump(assumed).replace("generator-twin", "generator-smollm2") == yaml.safe_dump(stated)
