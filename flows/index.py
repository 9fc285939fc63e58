"""The flow `index`: bring every source into the index, or the ones named.

    python flows/index.py --source handbook

Each source is one task that calls the same operation as `affinage index sync`. A source that is being synced by another run
is waited for, not done twice; what is worth trying again is tried again.
"""

from __future__ import annotations

import argparse
import json
import logging
from typing import Any

from prefect import flow, task
from prefect.client.schemas.objects import State, TaskRun

from affinage.errors import AffinageError
from affinage.settings import load_settings
from affinage.telemetry import configure_logging
from affinage.wiring import Affinage


def worth_retrying(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Whether the error that ended a task says that trying again may help."""
    try:
        state.result()
    except AffinageError as error:
        return error.retryable
    except Exception:  # noqa: BLE001  whatever else it was, it is not known to be temporary
        return False
    return False


@task(retries=2, retry_delay_seconds=[5, 30], retry_condition_fn=worth_retrying)
def sync(sources: list[str]) -> dict[str, Any]:
    """Sync the sources; an empty list means all."""
    app = Affinage(load_settings())
    try:
        return app.sync(*sources).as_dict()
    finally:
        app.close()


@flow(name="index")
def index(sources: list[str] | None = None) -> dict[str, Any]:
    """Sync every source, or the ones named; returns the report of `affinage index sync`."""
    return sync(sources or [])


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--source", action="append", default=[], help="a declared source; default: all")
    settings = load_settings()
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    logging.captureWarnings(True)
    print(json.dumps(index(arguments.parse_args().source), default=str))  # noqa: T201  the caller reads it
