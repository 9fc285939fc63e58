"""The registry's client where MLflow is not installed: an image of the gateway."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from affinage.errors import DependencyError
from affinage.registry.mlflow import MlflowRegistry

CALLS: list[Callable[[MlflowRegistry, Path], Any]] = [
    lambda registry, _: registry.versions("acme", "help"),
    lambda registry, _: registry.aliases("acme", "help"),
    lambda registry, _: registry.set_alias("acme", "help", "champion", "1"),
    lambda registry, folder: registry.download("acme", "help", "1", folder),
]


@pytest.mark.parametrize("call", CALLS, ids=["versions", "aliases", "set_alias", "download"])
def test_without_its_library_every_call_says_who_does_it_instead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: Callable[[MlflowRegistry, Path], Any]
) -> None:
    for name in ("mlflow", "mlflow.exceptions", "mlflow.artifacts"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DependencyError, match="not installed") as failed:
        call(MlflowRegistry("http://mlflow:5000", None), tmp_path)
    assert "controller" in failed.value.hint
