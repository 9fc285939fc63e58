"""The flow `evaluate`: held-out rows decide whether a variant may meet users.

    python flows/evaluate.py --variant 3f0c9a1b2d4e5f60
    python flows/evaluate.py

Without a variant: those whose alias `candidate` somebody set in MLflow since the last look. A refusal is a decision and not a
failed run: it is returned with its reasons.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from prefect import flow, task

from affinage.settings import load_settings
from affinage.telemetry import configure_logging
from affinage.wiring import Affinage


@task
def judge(variants: list[str]) -> list[dict[str, Any]]:
    """Compare each variant with its champion; the engines are loaded once for all of them."""
    app = Affinage(load_settings())
    named = variants or [stored.variant_id for stored in app.take_in_candidates()]
    return [app.evaluate_variant(variant).as_dict() for variant in named]


@flow(name="evaluate")
def evaluate(variants: list[str]) -> dict[str, Any]:
    """Judge the variants; returns the reports of `affinage adapter evaluate`, in order."""
    return {"evaluations": judge(variants)}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--variant", action="append", default=[], help="variant id")
    settings = load_settings()
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    print(json.dumps(evaluate(arguments.parse_args().variant), default=str))  # noqa: T201  the caller reads it
