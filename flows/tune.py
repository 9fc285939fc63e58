"""The flow `tune`: feedback becomes a dataset, the dataset an adapter, the adapter a version in MLflow.

    python flows/tune.py --assistant appels --kind extraction

A run that was killed goes on where it was: the dataset is the same as long as the feedback is, and the training resumes from
its last checkpoint. Too few rows is not tried again: it is an answer.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from prefect import flow, task

from affinage.datasets.build import build_dataset
from affinage.datasets.rows import Kind
from affinage.declarations.repository import get_assistant
from affinage.settings import load_settings
from affinage.telemetry import configure_logging
from affinage.wiring import Affinage


@task
def build(assistant: str, kind: Kind) -> str:
    """Build the snapshot from all feedback there is; returns its id."""
    app = Affinage(load_settings())
    with app.database.read() as connection:
        spec = get_assistant(connection, assistant)
    return build_dataset(app.database, app.blobs, assistant=spec, kind=kind, now=app.now).dataset_id


@task(retries=1)
def train(assistant: str, dataset: str) -> dict[str, Any]:
    """Train and register; a second try resumes the first."""
    return Affinage(load_settings()).train_adapter(assistant, dataset=dataset, resume=True).as_dict()


@flow(name="tune")
def tune(assistant: str, kind: Kind) -> dict[str, Any]:
    """Build, train, register; returns the report of `affinage adapter train`."""
    return train(assistant, build(assistant, kind))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--assistant", required=True, help="a declared assistant")
    arguments.add_argument("--kind", required=True, choices=["extraction", "embedding", "sft"], help="what is learnt")
    given = arguments.parse_args()
    settings = load_settings()
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    print(json.dumps(tune(given.assistant, given.kind), default=str))  # noqa: T201  the caller reads it
