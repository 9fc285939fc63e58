"""`helm lint`, and what a person reads who installs without values."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from tests.charts.check import problems
from tests.charts.rendering import CHART, everything, smallest, texts, values_file


@pytest.mark.parametrize("values", [smallest(), everything()], ids=["smallest", "everything"])
def test_lint_finds_nothing(values: dict[str, Any]) -> None:
    assert problems(CHART, values) == []


def test_lint_finds_what_is_wrong_with_a_template_and_with_values(tmp_path: Path) -> None:
    assert "replica" in "".join(problems(CHART, {**smallest(), "gateway": {"replica": 3}}))
    damaged = tmp_path / "affinage"
    shutil.copytree(CHART, damaged)
    (damaged / "templates" / "more.yaml").write_text("kind: {{ .Values.gateway.replicas | nonsense }}\n")
    assert "nonsense" in "".join(problems(damaged, smallest()))


def test_without_values_everything_that_is_missing_is_named_at_once(chart: helm_python.Chart) -> None:
    with pytest.raises(helm_python.HelmRenderError) as refused:
        texts(chart, {})
    for name in ("database.existingSecret", "registry.url", "vectors.url", "blobs.url", "prefect.apiUrl"):
        assert f"Set {name} to" in str(refused.value)


def test_the_readme_shows_the_smallest_values() -> None:
    shown = re.search(r"```yaml\n(.*?)```", (CHART / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert shown
    assert yaml.safe_load(shown[1]) == values_file("smallest")


def test_the_notes_name_the_secrets_that_must_exist(chart: helm_python.Chart) -> None:
    notes = texts(chart, everything())["NOTES.txt"]
    for secret in ("affinage-database", "affinage-registry", "affinage-vectors", "affinage-blobs", "affinage-prefect"):
        assert secret in notes
    assert "helm test affinage --namespace tenant" in notes
    assert "Pending" in notes
    assert "Nothing is declared" not in notes
    assert "Nothing is declared" in texts(chart, smallest())["NOTES.txt"]


def test_the_chart_depends_on_nothing_and_has_the_version_of_the_package(chart: helm_python.Chart) -> None:
    assert "dependencies" not in chart.metadata
    project = (CHART.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{chart.metadata["appVersion"]}"\n' in project
