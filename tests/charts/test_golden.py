"""What the chart makes, compared with files that are read in review: `pytest tests/charts --update-golden` writes them."""

from __future__ import annotations

from pathlib import Path

import helm_python
import pytest

from tests.charts.rendering import everything, smallest, texts

GOLDEN = Path(__file__).parent / "golden"


def test_the_default_manifests_are_those_that_were_reviewed(chart: helm_python.Chart, request: pytest.FixtureRequest) -> None:
    found = texts(chart, smallest())
    shown = {path: text.strip() for path, text in sorted(found.items()) if path.endswith(".yaml")}
    text = "".join(f"# {path}\n{text}\n\n" for path, text in shown.items() if text.strip("- \n"))
    file = GOLDEN / "default.yaml"
    # An option of a conftest in a folder exists only when that folder is named.
    if request.config.getoption("--update-golden", default=False):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), "If the change is meant: pytest tests/charts --update-golden, and read the diff."


def test_the_same_values_give_the_same_bytes(chart: helm_python.Chart) -> None:
    assert texts(chart, everything()) == texts(chart, everything())
