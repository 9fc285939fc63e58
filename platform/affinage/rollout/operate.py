"""Plan, apply, status and rollback of a release: what `affinage rollout` does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from affinage.errors import AffinageError, ConfigurationError, DependencyError, NotAllowedError, RefusedError
from affinage.rollout.changes import Change, changes, objects_of, without_hooks, without_tests
from affinage.rollout.helm import HelmRelease
from affinage.rollout.kubernetes import Cluster, Component
from affinage.rollout.needs import PULL_KEY, MissingSecret, missing_secrets, wanted_secrets

DEPLOYED = "deployed"
LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """What an upgrade would do.

    `refusals` are what the API server would not take, `missing` the Secrets without which pods would not start, and `unchecked`
    those that this account may not look at.
    """

    revision: int | None
    changes: tuple[Change, ...]
    refusals: tuple[str, ...]
    missing: tuple[MissingSecret, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether `apply` would change nothing."""
        return bool(self.refusals or self.missing)

    def as_dict(self) -> dict[str, Any]:
        """As `affinage rollout plan --json` prints it."""
        return {
            "revision": self.revision,
            "diff": [change.as_dict() for change in self.changes],
            "refusals": list(self.refusals),
            "missing_secrets": [secret.as_dict() for secret in self.missing],
            "unchecked_secrets": list(self.unchecked),
        }


@dataclass(frozen=True)
class Status:
    """The present revision and its pods."""

    revision: int | None
    status: str
    components: tuple[Component, ...]
    troubles: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether the revision is deployed and every component has its pods."""
        return self.status == DEPLOYED and all(component.done for component in self.components)

    def as_dict(self) -> dict[str, Any]:
        """As `affinage rollout status --json` prints it."""
        components = {component.name: component.as_dict() for component in self.components}
        return {
            "revision": self.revision,
            "status": self.status,
            "ready": self.ready,
            "components": components,
            "troubles": list(self.troubles),
        }


def read_values(files: Sequence[Path]) -> dict[str, Any]:
    """Values of YAML files; a later file wins, maps are joined as Helm joins them.

    Raises
    ------
    ConfigurationError
        If a file is missing or is no YAML mapping.
    """
    values: dict[str, Any] = {}
    for file in files:
        try:
            found = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigurationError(f"{file} cannot be read as YAML: {error}.", hint="Give the chart's values.") from error
        if not isinstance(found, dict):
            raise ConfigurationError(f"{file} must hold a mapping.", hint="helm/affinage/values.yaml shows one.")
        values = _joined(values, found)
    return values


def plan(release: HelmRelease, cluster: Cluster, *, chart: Path, values: Mapping[str, Any]) -> Plan:
    """Compare what is there with what these values make; ask the API server whether it would take it and has the Secrets for it."""
    revisions = release.revisions()
    rendered = objects_of(release.render(chart, values, upgrade=bool(revisions)))
    found = changes(without_hooks(objects_of([release.manifest()])), without_hooks(rendered))
    wanted = wanted_secrets(rendered)
    present, unchecked = {}, []
    for name in wanted:
        try:
            present[name] = cluster.secret_keys(name)
        except NotAllowedError:
            unchecked.append(name)  # its keys are the administrator's business; what is missing shows when the pods start
    return Plan(
        revision=revisions[-1].number if revisions else None,
        changes=tuple(found),
        refusals=tuple(cluster.refusals(without_tests(rendered))),
        missing=tuple(missing_secrets(wanted, present)),
        unchecked=tuple(unchecked),
    )


def how_to_create(secret: MissingSecret, *, namespace: str) -> str:
    """The command that makes what is missing, without a value in it: that would stay in the shell's history."""
    if secret.exists:
        return f"kubectl --namespace {namespace} edit secret {secret.name}"
    if secret.keys == (PULL_KEY,):
        return f"kubectl --namespace {namespace} create secret docker-registry {secret.name} --from-file={PULL_KEY}=FILE"
    files = " ".join(f"--from-file={key}=FILE" for key in secret.keys)
    return f"kubectl --namespace {namespace} create secret generic {secret.name} {files}".rstrip()


def apply(
    release: HelmRelease,
    cluster: Cluster,
    *,
    chart: Path,
    values: Mapping[str, Any],
    seconds: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Make it so and wait until every pod is ready; what fails is rolled back. Nothing to change: nothing is done.

    Returns
    -------
    Plan
        What was changed.

    Raises
    ------
    RefusedError
        If the API server would refuse objects, or pods would lack a Secret; nothing was changed.
    DependencyError
        If the pods did not become ready in time, with the reasons; the former revision serves again.
    """
    planned = plan(release, cluster, chart=chart, values=values)
    if planned.refusals:
        raise RefusedError(
            "The API server would refuse this: " + " ".join(planned.refusals),
            reasons=planned.refusals,
            hint="Change the values, or what the cluster allows; nothing was changed.",
        )
    if planned.missing:
        reasons = [str(secret) for secret in planned.missing]
        commands = "; ".join(f"`{how_to_create(secret, namespace=release.namespace)}`" for secret in planned.missing)
        raise RefusedError(
            f"Pods in namespace `{release.namespace}` could not start. {' '.join(reasons)}",
            reasons=reasons,
            hint=f"Nothing was changed. Correct the names in the values, or create what is missing: {commands}.",
        )
    if planned.unchecked:
        progress(f"Not looked at, because this account may not read them: {', '.join(planned.unchecked)}.")
    before = [revision for revision in release.revisions() if revision.status == DEPLOYED]
    if not planned.changes and before and before[-1].number == planned.revision:
        return planned
    try:
        with _watched(release, cluster, progress):
            release.upgrade(chart, values, seconds=seconds)
    except DependencyError as error:
        raise _taken_back(release, cluster, error, to=before[-1].number if before else None, seconds=seconds) from error
    return planned


def status(release: HelmRelease, cluster: Cluster) -> Status:
    """How the release does now; `status` is `absent` without one."""
    revisions = release.revisions()
    components = tuple(cluster.components(release.name))
    if not revisions:
        return Status(None, "absent", components)
    return Status(revisions[-1].number, revisions[-1].status, components, tuple(cluster.hook_troubles(release.name)))


def rollback(
    release: HelmRelease, cluster: Cluster, *, to: int | None, seconds: int, progress: Callable[[str], None] = lambda _: None
) -> int:
    """Bring an earlier revision back as a new one, by default the last one before the present that was good; returns its number.

    Raises
    ------
    RefusedError
        If there is no such revision.
    """
    revisions = release.revisions()
    good = [one.number for one in revisions[:-1] if one.status in (DEPLOYED, "superseded")]
    target = to if to is not None else good[-1] if good else None
    if target is None or target not in {one.number for one in revisions}:
        raise RefusedError(
            f"`{release.name}` cannot be rolled back.",
            reasons=["There is no such revision." if to is not None else "There is no good revision before the present one."],
            hint=f"Revisions: {', '.join(f'{one.number} ({one.status})' for one in revisions) or 'none'}.",
        )
    with _watched(release, cluster, progress):
        release.rollback(target, seconds=seconds)
    return target


def _taken_back(release: HelmRelease, cluster: Cluster, error: DependencyError, *, to: int | None, seconds: int) -> DependencyError:
    """Roll back what failed; the error that says why it failed and what serves now."""
    reasons = [reason for component in cluster.components(release.name) for reason in component.reasons if not component.done]
    reasons += cluster.hook_troubles(release.name)
    why = " ".join(reasons) or error.message
    try:
        if to is None:
            release.uninstall(seconds=seconds)
            now = "The release was removed again."
        else:
            release.rollback(to, seconds=seconds)
            now = f"Revision {to} serves again."
    except AffinageError as again:
        now = f"Taking it back failed, too: {again.message}"
    return DependencyError(
        "helm", f"`{release.name}` did not become ready: {why} {now}", hint="Correct it and apply again.", retryable=False
    )


@contextmanager
def _watched(release: HelmRelease, cluster: Cluster, progress: Callable[[str], None]) -> Iterator[None]:
    """Tell how many pods are ready whenever that changes, while the block lasts."""
    done = threading.Event()

    def look() -> None:
        told = ""
        while not done.wait(LOOK_SECONDS):
            try:
                waiting = [one for one in cluster.components(release.name) if not one.done]
            except AffinageError:
                continue  # Helm reports a cluster that is away
            line = ", ".join(f"{one.name} {min(one.ready, one.updated)}/{one.wanted}" for one in waiting)
            if line and line != told:
                progress(f"Waiting for {line}.")
            told = line

    watcher = threading.Thread(target=look, name="rollout", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _joined(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in other.items():
        before = out.get(key)
        out[key] = _joined(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return out
