"""The flow `promote`: look at the evidence of every experiment, and do what follows.

    python flows/promote.py

Moves made by hand in MLflow come first: an experiment whose champion was overridden ends. A site that runs the controller
needs this flow only when the controller is down; looking twice changes nothing.
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
def look() -> list[dict[str, Any]]:
    """Ramp, pause, promote, roll back, or nothing; one entry for each experiment that has not ended."""
    app = Affinage(load_settings())
    try:
        app.follow_moves()
        app.take_in_champions()
        return [
            {
                "experiment": seen.experiment.experiment_id,
                "state": str(seen.experiment.state),
                "decision": seen.result.decision if seen.result else None,
                "steps": [{"to_state": str(step.to_state), "reason": step.reason} for step in seen.steps],
            }
            for seen in app.look_at_experiments()
        ]
    finally:
        app.close()


@flow(name="promote")
def promote() -> dict[str, Any]:
    """Look once; returns what each experiment came to."""
    return {"experiments": look()}


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    settings = load_settings()
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    print(json.dumps(promote(), default=str))  # noqa: T201  the caller reads it
