"""Helm, through its own library: render, install, upgrade, roll back, and ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python

from affinage.errors import AffinageError, ConfigurationError, DependencyError, UnknownObjectError

QUERIES_PER_SECOND, BURST = 50.0, 100
# The library's default of 5 a second makes a release of forty objects wait for itself.
KEPT_REVISIONS = 20


@dataclass(frozen=True)
class Revision:
    """One revision of a release, with its status in Helm's words: deployed, superseded, failed, pending-upgrade and others."""

    number: int
    status: str


class HelmRelease:
    """One release of a chart in one namespace.

    Parameters
    ----------
    kubeconfig
        None: the one that kubectl would use, or the pod's own.
    """

    def __init__(self, name: str, *, namespace: str, kubeconfig: Path | None = None, context: str | None = None) -> None:
        self.name = name
        self.namespace = namespace
        with _converted("reach the cluster"):
            self._config = helm_python.Config(
                kubeconfig_path=kubeconfig, kube_context=context, namespace=namespace, qps=QUERIES_PER_SECOND, burst_limit=BURST
            )

    def render(self, chart: Path, values: Mapping[str, Any], *, upgrade: bool) -> list[str]:
        """The chart's manifests with these values, after its schema; knows what the cluster can do.

        Raises
        ------
        ConfigurationError
            If the values are not the chart's, or contradict each other.
        """
        with _converted("render the chart"), helm_python.Chart.load(chart) as loaded:
            loaded.validate_schema(dict(values))
            texts = self._config.render(
                loaded, dict(values), name=self.name, namespace=self.namespace, is_upgrade=upgrade, is_install=not upgrade
            )
        return [text for name, text in sorted(texts.items()) if name.endswith((".yaml", ".yml"))]

    def manifest(self) -> str:
        """The objects of the present revision, as YAML documents; empty without a release."""
        found = self._ask(lambda: self._config.status(self.name))
        return "" if found is None else str(found.get("manifest") or "")

    def revisions(self) -> list[Revision]:
        """All that Helm keeps, the oldest first; empty without a release."""
        found = self._ask(lambda: self._config.history(self.name)) or []
        made = [Revision(int(one["revision"]), str(one["status"])) for one in found]
        return sorted(made, key=lambda revision: revision.number)

    def upgrade(self, chart: Path, values: Mapping[str, Any], *, seconds: int) -> None:
        """Install or upgrade, and wait until all is ready; what fails stays as it is, for the caller to look at."""
        with _converted(f"upgrade `{self.name}`"):
            if self.revisions():
                # Values that are not given are the chart's again: the file is the whole truth.
                self._config.upgrade(
                    chart, self.name, dict(values), wait="watcher", timeout=seconds, reset_values=True, max_history=KEPT_REVISIONS
                )
            else:
                self._config.install(chart, self.name, dict(values), wait="watcher", timeout=seconds)

    def rollback(self, revision: int, *, seconds: int) -> None:
        """Make a new revision with the content of an earlier one, and wait until all is ready."""
        with _converted(f"roll `{self.name}` back to revision {revision}"):
            self._config.rollback(self.name, version=revision, wait="watcher", timeout=seconds)

    def uninstall(self, *, seconds: int) -> None:
        """Remove the release; absent is fine."""
        with _converted(f"remove `{self.name}`"):
            self._config.uninstall(self.name, ignore_not_found=True, timeout=seconds)

    def close(self) -> None:
        """Close the connection."""
        self._config.close()

    def _ask(self, question: Any) -> Any:
        with _converted(f"read release `{self.name}`"):
            try:
                return question()
            except helm_python.HelmNotFoundError:
                return None
            except helm_python.HelmReleaseError as error:
                if "not found" in str(error):
                    return None
                raise


@contextmanager
def _converted(doing: str) -> Iterator[None]:
    try:
        yield
    except AffinageError:
        raise
    except (helm_python.HelmChartLoadError, helm_python.HelmChartInvalidError, helm_python.HelmIOError) as error:
        raise UnknownObjectError("chart", str(error), hint="Give the folder of the chart: `--chart helm/affinage`.") from error
    except (helm_python.HelmValuesError, helm_python.HelmRenderError) as error:
        raise ConfigurationError(
            f"The values do not fit the chart: {error}", hint="helm/affinage/values.yaml explains each value."
        ) from error
    except helm_python.HelmError as error:
        raise DependencyError("helm", f"Helm could not {doing}: {error}", hint="Look at it: `affinage rollout status`.") from error
