"""Helm's lint of the chart, for `make check`: with the least values, and with all that can be turned on."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python

from tests.charts.rendering import CHART, everything, smallest

WARNING = 2
KUBERNETES = "v1.34.4"


def problems(chart: Path, values: Mapping[str, Any]) -> list[str]:
    """What Helm finds, errors and warnings; empty when all is well."""
    report = helm_python.lint(chart, dict(values), strict=True, kube_version=KUBERNETES)
    return [f"{one['path']}: {one['error'].strip()}" for one in report["messages"] if one["severity"] >= WARNING]


def main() -> int:
    """Print what is wrong; the exit code."""
    found = [
        f"{CHART.name} with the {name} values: {one}"
        for name, values in (("smallest", smallest()), ("fullest", everything()))
        for one in problems(CHART, values)
    ]
    sys.stdout.write(("\n".join(found) or "helm lint: nothing found.") + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
