"""Why pods do not start or end, in the kubelet's own words, as `affinage rollout` tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from affinage.rollout.kubernetes import INSTANCE, Cluster
from tests.cluster.node import Node
from tests.cluster.on_node.test_pods import pod
from tests.support.programs import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.node]
SECONDS = 60
LAST_WORDS = "Error: The database failed: connection failed."


def job(name: str, program: str, **container: Any) -> dict[str, Any]:
    """As the chart's migration is: pods of no Deployment."""
    made = pod(name, program, restartPolicy="Never")
    made["spec"]["containers"][0] |= {"terminationMessagePolicy": "FallbackToLogsOnError", **container}
    made["metadata"] = {"labels": {INSTANCE: "affinage"}}
    return {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": made}}


def test_a_missing_secret_and_the_last_words_of_a_process_are_told(
    node: Node, api: client.ApiClient, kubeconfig: Path, namespace: str
) -> None:
    batch = client.BatchV1Api(api)
    secret = {"name": "URL", "valueFrom": {"secretKeyRef": {"name": "affinage-database", "key": "url"}}}
    batch.create_namespaced_job(namespace, job("waits", "pass", env=[secret]))
    batch.create_namespaced_job(namespace, job("ends", f"raise SystemExit({LAST_WORDS!r})"))
    cluster = Cluster(namespace=namespace, kubeconfig=kubeconfig)
    waits, ends = 'CreateContainerConfigError: secret "affinage-database" not found', f"main ended with 1 (Error): {LAST_WORDS}"

    def told() -> bool:
        found = cluster.hook_troubles("affinage")
        return any(one.endswith(waits) for one in found) and any(one.endswith(ends) for one in found)

    try:
        wait_for(told, what="It is not told", seconds=SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}: {cluster.hook_troubles('affinage')}") from error
    finally:
        cluster.close()
