"""`affinage rollout`: the pods, by Helm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affinage.cli.output import JsonFlag, emit, note

if TYPE_CHECKING:
    from affinage.rollout.changes import Change
    from affinage.rollout.helm import HelmRelease
    from affinage.rollout.kubernetes import Cluster

rollouts = typer.Typer(no_args_is_help=True, help="The pods on a cluster, by Helm.\n\nExample: affinage rollout plan -f values.yaml")
CHART = Path(__file__).resolve().parents[3] / "helm" / "affinage"
Values = Annotated[list[Path], typer.Option("-f", "--values", help="Values of the chart; a later file wins.")]
Chart = Annotated[Path, typer.Option("--chart", help="Folder of the chart; default: the one of this checkout.")]
Release = Annotated[str, typer.Option("--release", help="Name of the release.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Its namespace.")]
Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", help="Default: what kubectl uses, or the pod's own.")]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")]
Seconds = Annotated[int, typer.Option("--timeout", min=1, help="Seconds until pods that are not ready are given up.")]


@rollouts.command("plan")
def plan_(
    *,
    values: Values,
    chart: Chart = CHART,
    release: Release = "affinage",
    namespace: Namespace = "affinage",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    json_output: JsonFlag = False,
) -> None:
    """Show what would change, checked by the API server; changes nothing. Exits 3 when it would be refused or a Secret is missing.

    Example: affinage rollout plan -f values.yaml --namespace affinage
    """
    from affinage.rollout.operate import how_to_create, plan, read_values

    with _opened(release, namespace, kubeconfig, context) as (helm, cluster):
        found = plan(helm, cluster, chart=chart, values=read_values(values))
    lines = [line for change in found.changes for line in (_head(change), *(f"  {d}" for d in change.diff))] or ["Nothing would change."]
    lines += [f"NOT CHECKED Secret `{name}`: this account may not read it." for name in found.unchecked]
    lines += [f"REFUSED {one}" for one in found.refusals]
    lines += [f"MISSING {secret} {how_to_create(secret, namespace=namespace)}" for secret in found.missing]
    emit(found.as_dict(), as_json=json_output, lines=lines)
    if found.refused:
        raise typer.Exit(3)


@rollouts.command("apply")
def apply_(
    *,
    values: Values,
    chart: Chart = CHART,
    release: Release = "affinage",
    namespace: Namespace = "affinage",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    seconds: Seconds = 600,
    json_output: JsonFlag = False,
) -> None:
    """Install or upgrade, and wait until every pod is ready; what does not become ready is rolled back, with the reason.

    Example: affinage rollout apply -f values.yaml --namespace affinage
    """
    from affinage.rollout.operate import apply, read_values, status

    with _opened(release, namespace, kubeconfig, context) as (helm, cluster):
        done = apply(helm, cluster, chart=chart, values=read_values(values), seconds=seconds, progress=note)
        now = status(helm, cluster).as_dict()
    result = {**now, "diff": [change.as_dict() for change in done.changes]}
    changed = [_head(change) for change in done.changes]
    emit(result, as_json=json_output, lines=[*(changed or ["Nothing changed."]), *_lines(now)])


@rollouts.command("status")
def status_(
    *,
    release: Release = "affinage",
    namespace: Namespace = "affinage",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    json_output: JsonFlag = False,
) -> None:
    """Show the revision, the pods of each component, and why some are not ready.

    Example: affinage rollout status --namespace affinage
    """
    from affinage.rollout.operate import status

    with _opened(release, namespace, kubeconfig, context) as (helm, cluster):
        found = status(helm, cluster).as_dict()
    emit(found, as_json=json_output, lines=_lines(found))


@rollouts.command("rollback")
def rollback_(
    *,
    release: Release = "affinage",
    namespace: Namespace = "affinage",
    to: Annotated[int | None, typer.Option("--to", min=1, help="Revision; default: the last good one before the present.")] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    seconds: Seconds = 600,
    json_output: JsonFlag = False,
) -> None:
    """Bring an earlier revision back, and wait until every pod is ready.

    Example: affinage rollout rollback --namespace affinage
    """
    from affinage.rollout.operate import rollback, status

    with _opened(release, namespace, kubeconfig, context) as (helm, cluster):
        target = rollback(helm, cluster, to=to, seconds=seconds, progress=note)
        now = status(helm, cluster).as_dict()
    emit({**now, "restored": target}, as_json=json_output, lines=[f"Revision {target} is back.", *_lines(now)])


@contextmanager
def _opened(release: str, namespace: str, kubeconfig: Path | None, context: str | None) -> Iterator[tuple[HelmRelease, Cluster]]:
    from affinage.rollout.helm import HelmRelease
    from affinage.rollout.kubernetes import Cluster

    with ExitStack() as stack:
        cluster = Cluster(namespace=namespace, kubeconfig=kubeconfig, context=context)
        stack.callback(cluster.close)
        helm = HelmRelease(release, namespace=namespace, kubeconfig=kubeconfig, context=context)
        stack.callback(helm.close)
        yield helm, cluster


def _head(change: Change) -> str:
    return f"{change.action} {change.kind} {change.name}"


def _lines(status: dict[str, Any]) -> list[str]:
    lines = [f"Revision {status['revision']}: {status['status']}, {'ready' if status['ready'] else 'not ready'}."]
    for name, one in status["components"].items():
        lines.append(f"  {name:24} {one['ready']}/{one['wanted']} ready  {one['image']}")
        lines += [f"    {reason}" for reason in one["reasons"]]
    return lines + [f"  {trouble}" for trouble in status["troubles"]]
