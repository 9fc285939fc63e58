"""The alerts fire when they should and only then: promtool plays series to the rules that the chart makes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.charts.conftest import Render
from tests.support.programs import required

pytestmark = pytest.mark.cluster
CASES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))


@pytest.fixture
def rules(render: Render, tmp_path: Path) -> Path:
    """A folder with `rules.yaml`, which the cases name."""
    (rule,) = render({"monitoring.rules.enabled": True}).all("PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]), encoding="utf-8")
    return tmp_path


def promtool(*words: str, folder: Path) -> str:
    found = subprocess.run([required("promtool"), *words], cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_the_rules_are_well_formed(rules: Path) -> None:
    assert "SUCCESS: 3 rules found" in promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", folder=rules)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_alerts_fire_when_they_should(rules: Path, case: Path) -> None:
    (rules / case.name).write_text(case.read_text(encoding="utf-8"), encoding="utf-8")
    promtool("test", "rules", case.name, folder=rules)


def test_every_alert_has_a_case(render: Render) -> None:
    (rule,) = render({"monitoring.rules.enabled": True}).all("PrometheusRule")
    alerts = {alert["alert"] for group in rule["spec"]["groups"] for alert in group["rules"]}
    tried = {case["alertname"] for file in CASES for test in yaml.safe_load(file.read_text())["tests"] for case in test["alert_rule_test"]}
    assert tried == alerts
