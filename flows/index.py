"""The flow `index`: bring every source into the index, or the ones named.

    python flows/index.py --source handbook

With `--changed`, only sources that somebody said have changed. One task calls the same operation as `affinage index sync`. A
source that is being synced by another run is waited for, not done twice; what is worth trying again is tried again.
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
def sync(sources: list[str], *, changed: bool) -> dict[str, Any]:
    """Sync the sources; an empty list means all, or all that are said to have changed."""
    app = Affinage(load_settings())
    try:
        return (app.sync_changed() if changed else app.sync(*sources)).as_dict()
    finally:
        app.close()


@flow(name="index")
def index(sources: list[str] | None = None, changed: bool = False) -> dict[str, Any]:
    """Sync every source, or the ones named, or the changed ones; returns the report of `affinage index sync`."""
    return sync(sources or [], changed=changed)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--source", action="append", default=[], help="a declared source; default: all")
    arguments.add_argument("--changed", action="store_true", help="only sources that are said to have changed")
    given = arguments.parse_args()
    settings = load_settings()
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    logging.captureWarnings(True)
    print(json.dumps(index(given.source, given.changed), default=str))  # noqa: T201  the caller reads it
