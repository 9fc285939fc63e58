"""The API server: whether it would take objects, and how the pods of a release do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config, dynamic
from kubernetes.config.config_exception import ConfigException

from affinage.errors import DependencyError, NotAllowedError
from affinage.rollout.changes import Manifest

FIELD_MANAGER = "affinage-rollout"
INSTANCE, COMPONENT = "app.kubernetes.io/instance", "app.kubernetes.io/component"
FLOW = "flow"
# Component of the pods that a Kubernetes work pool starts.
_SECONDS = 30


@dataclass(frozen=True)
class Component:
    """Pods of one kind, and why some are not ready."""

    name: str
    wanted: int
    ready: int
    updated: int
    image: str
    reasons: tuple[str, ...] = field(default=())

    @property
    def done(self) -> bool:
        """Whether as many pods as wanted are ready, all of the newest kind."""
        return self.ready >= self.wanted and self.updated >= self.wanted

    def as_dict(self) -> dict[str, Any]:
        """As `affinage rollout status --json` prints it."""
        return {"wanted": self.wanted, "ready": self.ready, "updated": self.updated, "image": self.image, "reasons": list(self.reasons)}


class Cluster:
    """One namespace of a cluster.

    Parameters
    ----------
    kubeconfig
        None: the one that kubectl would use, or the pod's own.
    """

    def __init__(self, *, namespace: str, kubeconfig: Path | None = None, context: str | None = None) -> None:
        self._namespace = namespace
        with _converted("find the cluster"):
            if kubeconfig is None and not _has_kubeconfig():
                config.load_incluster_config()
                self._api = client.ApiClient()
            else:
                self._api = config.new_client_from_config(config_file=str(kubeconfig) if kubeconfig else None, context=context)

    def refusals(self, objects: Sequence[Manifest]) -> list[str]:
        """What the API server would refuse, one sentence each, with its reason; changes nothing.

        Helm's own dry run does not ask the API server.
        """
        found = []
        with _converted("check the objects"):
            resources = dynamic.DynamicClient(self._api).resources
            for one in objects:
                name = f"{one['kind']} `{one['metadata']['name']}`"
                try:
                    resource = resources.get(api_version=one["apiVersion"], kind=one["kind"])
                    resource.server_side_apply(
                        body=dict(one),
                        name=one["metadata"]["name"],
                        namespace=self._namespace if resource.namespaced else None,
                        dry_run="All",
                        field_manager=FIELD_MANAGER,
                        force_conflicts=True,
                        _request_timeout=_SECONDS,
                    )
                except dynamic.exceptions.ResourceNotFoundError:
                    found.append(f"{name}: the cluster does not know {one['apiVersion']}.")
                except dynamic.exceptions.DynamicApiError as error:
                    found.append(f"{name}: {_message(error.body)}")
        return found

    def components(self, release: str) -> list[Component]:
        """The Deployments of a release, by component."""
        selector = f"{INSTANCE}={release}"
        with _converted("read the pods"):
            deployments = client.AppsV1Api(self._api).list_namespaced_deployment(
                self._namespace, label_selector=selector, _request_timeout=_SECONDS
            )
            pods = client.CoreV1Api(self._api).list_namespaced_pod(self._namespace, label_selector=selector, _request_timeout=_SECONDS)
        found = []
        for one in deployments.items:
            name = one.metadata.labels.get(COMPONENT, one.metadata.name)
            current = (one.status.observed_generation or 0) >= one.metadata.generation
            reasons = {reason for pod in pods.items if pod.metadata.labels.get(COMPONENT) == name for reason in _troubles(pod)}
            found.append(
                Component(
                    name=name,
                    wanted=one.spec.replicas,
                    ready=one.status.ready_replicas or 0,
                    updated=(one.status.updated_replicas or 0) if current else 0,
                    image=one.spec.template.spec.containers[0].image,
                    reasons=tuple(sorted(reasons)),
                )
            )
        return sorted(found, key=lambda component: component.name)

    def hook_troubles(self, release: str) -> list[str]:
        """Why pods of no Deployment, such as the migration's, are not ready."""
        selector = f"{INSTANCE}={release}"
        with _converted("read the pods"):
            pods = client.CoreV1Api(self._api).list_namespaced_pod(self._namespace, label_selector=selector, _request_timeout=_SECONDS)
        # A run of a flow that failed is Prefect's to tell, and no fault of the release.
        ours = [pod for pod in pods.items if pod.metadata.labels.get(COMPONENT) != FLOW]
        jobs = [pod for pod in ours if any(owner.kind == "Job" for owner in pod.metadata.owner_references or [])]
        return sorted({reason for pod in jobs for reason in _troubles(pod)})

    def secret_keys(self, name: str) -> frozenset[str] | None:
        """The keys of a Secret, and none of its values; None when there is no such Secret.

        Raises
        ------
        NotAllowedError
            If this account may not read it.
        """
        with _converted(f"read Secret `{name}`"):
            try:
                found = client.CoreV1Api(self._api).read_namespaced_secret(name, self._namespace, _request_timeout=_SECONDS)
            except client.ApiException as error:
                if error.status == HTTPStatus.NOT_FOUND:
                    return None
                if error.status == HTTPStatus.FORBIDDEN:
                    hint = "Give the account the right to `get` this Secret."
                    raise NotAllowedError(f"Secret `{name}` may not be read by this account.", hint=hint) from error
                raise
        return frozenset(found.data or ())

    def close(self) -> None:
        """Close the connection."""
        self._api.close()


def _troubles(pod: Any) -> Iterator[str]:
    """Why a pod is not ready: what its containers wait for or ended with, else what the scheduler says."""
    name = pod.metadata.name
    for status in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
        waiting = status.state.waiting if status.state else None
        ended = (status.state.terminated if status.state else None) or (status.last_state.terminated if status.last_state else None)
        if waiting and waiting.reason not in (None, "ContainerCreating", "PodInitializing"):
            yield f"{name}: {waiting.reason}: {waiting.message or 'no message'}"
        elif ended and (ended.exit_code or (status.restart_count and not status.ready)):
            said = (ended.message or "").strip()[-500:] or "see its log"
            yield f"{name}: {status.name} ended with {ended.exit_code} ({ended.reason}): {said}"
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            yield f"{name}: not scheduled: {condition.message}"


def _message(body: Any) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(body)[:500]


def _has_kubeconfig() -> bool:
    try:
        config.list_kube_config_contexts()
    except ConfigException:
        return False
    return True


@contextmanager
def _converted(doing: str) -> Iterator[None]:
    try:
        yield
    except ConfigException as error:
        raise DependencyError(
            "kubernetes", f"There is no cluster to {doing}: {error}", hint="Set KUBECONFIG or give `--kubeconfig`."
        ) from error
    except (client.ApiException, dynamic.exceptions.DynamicApiError) as error:
        hint = "Check the kubeconfig's rights in this namespace."
        raise DependencyError("kubernetes", f"The API server did not {doing}: {_message(error.body)}", hint=hint) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        hint = "Check that the cluster is up and KUBECONFIG names it."
        raise DependencyError("kubernetes", f"The API server cannot be reached: {type(error).__name__}.", hint=hint) from error
