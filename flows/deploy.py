"""Tell a Prefect server which flows run when: one deployment for each scheduled flow, by what is declared now.

    PREFECT_API_URL=http://prefect:4200/api python flows/deploy.py --pool affinage

With `--job-template FILE`, the chart's, the pool is of type `kubernetes` and gets that template each time.

Can be repeated: what is the same stays, what is declared no longer goes. A run that is due while another of the same
deployment is under way is cancelled, so that the runs of an outage collapse into one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.exceptions import ObjectAlreadyExists

from affinage.declarations.repository import list_assistants, list_sources
from affinage.declarations.schedules import ScheduledFlow, scheduled_flows
from affinage.settings import load_settings
from affinage.telemetry import configure_logging
from affinage.wiring import Affinage

TAG = "affinage"
ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)


def deploy(wanted: list[ScheduledFlow], *, pool: str, job_template: dict[str, Any] | None) -> dict[str, Any]:
    """Create or update the work pool and the deployments; remove ours that are wanted no longer."""
    made = {}
    with get_client(sync_client=True) as client:
        kind, base = ("process", {}) if job_template is None else ("kubernetes", job_template)
        try:
            client.create_work_pool(WorkPoolCreate(name=pool, type=kind, base_job_template=base))
        except ObjectAlreadyExists:  # from an earlier time, or a worker that starts at this moment made it
            if job_template is not None:
                client.update_work_pool(pool, WorkPoolUpdate(base_job_template=base))
        for one in wanted:
            flow: Any = Flow.from_source(str(Path(__file__).parent), entrypoint=f"{one.flow}.py:{one.flow}")
            made[f"{one.flow}/{one.name}"] = flow.deploy(
                one.name,
                work_pool_name=pool,
                cron=one.cron,
                parameters=one.parameters,
                concurrency_limit=ONE_AT_A_TIME,
                tags=[TAG],
                build=False,
                push=False,
                print_next_steps=False,
                ignore_warnings=True,
            )
        ours = client.read_deployments(deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG])))
        gone = [deployment for deployment in ours if deployment.id not in made.values()]
        for deployment in gone:
            client.delete_deployment(deployment.id)
    return {"deployments": sorted(made), "removed": sorted(deployment.name for deployment in gone)}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pool", default="affinage", help="work pool; made if it is not there")
    arguments.add_argument("--job-template", type=Path, help="base job template, as JSON, of a pool of type kubernetes")
    given = arguments.parse_args()
    template = json.loads(given.job_template.read_text(encoding="utf-8")) if given.job_template else None
    settings = load_settings()
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    app = Affinage(settings)
    with app.database.read() as connection:
        scheduled = scheduled_flows(list_sources(connection), list_assistants(connection))
    print(json.dumps(deploy(scheduled, pool=given.pool, job_template=template)))  # noqa: T201  the caller reads it
