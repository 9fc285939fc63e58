"""The MLflow registry: versions with their adapter files, and aliases. The only module that imports MLflow.

Every call may be repeated: a version is found again by the id of its variant, so a crash between two steps leaves
nothing double. Who may serve is decided in the database; MLflow has no compare-and-set, so its aliases follow.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from affinage.errors import DependencyError, UnknownObjectError
from affinage.registry.adapter_files import DIGESTED, VARIANT
from affinage.registry.names import TAG, base_model_name, model_name

ADAPTER_PATH = "adapter"
# Folder of the run's artifacts that a version points at.
MAX_PARAM_CHARS = 500
# MLflow's server refuses longer values (6,000 since 2.10; old servers 500).
_UNKNOWN_HOST = "Invalid Host header"
# How a server says, in plain text with status 403, that it does not know the name by which it was called.
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is the verb's
}


@dataclass(frozen=True)
class RegisteredVersion:
    """One version as MLflow has it. `spec` is its `variant.json` where the platform wrote one."""

    model: str
    version: str
    run_id: str | None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def variant_id(self) -> str | None:
        """The variant it is, when the platform registered it or has taken it in."""
        return self.tags.get(TAG + "variant_id")


class MlflowRegistry:
    """One MLflow tracking store and registry.

    Parameters
    ----------
    uri
        `sqlite:///FILE` on one machine, the server's URL in a cluster.
    artifacts
        Where runs keep their files; None leaves it to the server.
    """

    def __init__(self, uri: str, artifacts: Path | None) -> None:
        self.uri = uri
        self._artifacts = artifacts

    @cached_property
    def _client(self) -> Any:
        for key, value in _QUIET.items():
            os.environ.setdefault(key, value)
        from mlflow import MlflowClient  # noqa: PLC0415  seconds to import

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        if self._artifacts is not None:
            self._artifacts.mkdir(parents=True, exist_ok=True)
        with self._converted("open the registry"):
            return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def register_base(self, name: str, *, digest: str, tags: Mapping[str, str]) -> str:
        """Version of `base.<name>` for the weights with `digest`; the weights stay where they are."""
        model = base_model_name(name)
        return self._register(model, key=TAG + "digest", value=digest, files=None, tags=tags).version

    def register_variant(
        self,
        *,
        organisation: str,
        assistant: str,
        variant_id: str,
        spec: Mapping[str, Any],
        adapter: Path | None,
        tags: Mapping[str, str],
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> RegisteredVersion:
        """The version of this variant, made at the first call.

        Parameters
        ----------
        spec
            Written as `variant.json` beside the adapter's files.
        adapter
            Staged PEFT folder; None for a variant that changes no weights.
        params, metrics
            Of the training run, for people who compare runs in MLflow.
        """
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / ADAPTER_PATH
            folder.mkdir()
            for name in DIGESTED if adapter is not None else ():
                if adapter is not None and (adapter / name).is_file():
                    shutil.copyfile(adapter / name, folder / name)
            (folder / VARIANT).write_text(json.dumps(dict(spec), indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
            model = model_name(organisation, assistant)
            key = TAG + "variant_id"
            return self._register(model, key=key, value=variant_id, files=folder, tags=tags, params=params, metrics=metrics)

    def _register(
        self,
        model: str,
        *,
        key: str,
        value: str,
        files: Path | None,
        tags: Mapping[str, str],
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> RegisteredVersion:
        with self._converted(f"register a version of `{model}`"):
            self._ensure_model(model)
            found = self._find(model, key=key, value=value)
            if found is not None:
                return found
            run_id = self._ensure_run(model, key=key, value=value)
            for name, given in (params or {}).items():
                self._client.log_param(run_id, name, str(given)[:MAX_PARAM_CHARS])
            for name, number in (metrics or {}).items():
                self._client.log_metric(run_id, name, number)
            if files is not None:
                self._client.log_artifacts(run_id, str(files), ADAPTER_PATH)
            all_tags = {**tags, key: value}
            made = self._client.create_model_version(model, f"runs:/{run_id}/{ADAPTER_PATH}", run_id, tags=all_tags)
            self._client.set_terminated(run_id)
            return RegisteredVersion(model, str(made.version), run_id, all_tags)

    def _ensure_model(self, model: str) -> None:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            self._client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _ensure_run(self, model: str, *, key: str, value: str) -> str:
        experiment = self._client.get_experiment_by_name(model)
        location = None if self._artifacts is None else (self._artifacts / model).as_uri()
        experiment_id = (
            self._client.create_experiment(model, artifact_location=location) if experiment is None else experiment.experiment_id
        )
        runs = self._client.search_runs([experiment_id], f"tags.`{key}` = '{value}'", max_results=1)
        if runs:
            return str(runs[0].info.run_id)
        return str(self._client.create_run(experiment_id, tags={key: value}, run_name=value).info.run_id)

    def _find(self, model: str, *, key: str, value: str) -> RegisteredVersion | None:
        versions = self._client.search_model_versions(f"name = '{model}' and tags.`{key}` = '{value}'")
        return _version(min(versions, key=lambda found: int(found.version))) if versions else None

    def versions(self, organisation: str, assistant: str) -> list[RegisteredVersion]:
        """All versions of the assistant's model, the oldest first."""
        with self._converted("list versions"):
            found = self._client.search_model_versions(f"name = '{model_name(organisation, assistant)}'")
            return sorted((_version(one) for one in found), key=lambda one: int(one.version))

    def get_version(self, organisation: str, assistant: str, version: str) -> RegisteredVersion:
        """One version.

        Raises
        ------
        UnknownObjectError
            If the model has no such version.
        """
        model = model_name(organisation, assistant)
        try:
            with self._converted(f"read version {version} of `{model}`"):
                return _version(self._client.get_model_version(model, version))
        except DependencyError as error:
            if error.fields.get("status") == "RESOURCE_DOES_NOT_EXIST":
                raise UnknownObjectError("model version", f"{model} {version}", hint="Look at the versions in MLflow.") from error
            raise

    def set_tags(self, organisation: str, assistant: str, version: str, tags: Mapping[str, str]) -> None:
        """Write tags on a version; tags that are not named stay."""
        with self._converted("tag a version"):
            for key, value in tags.items():
                self._client.set_model_version_tag(model_name(organisation, assistant), version, key, value)

    def set_alias(self, organisation: str, assistant: str, alias: str, version: str) -> None:
        """Point `alias` at `version`."""
        with self._converted(f"set alias `{alias}`"):
            self._client.set_registered_model_alias(model_name(organisation, assistant), alias, version)

    def get_alias(self, organisation: str, assistant: str, alias: str) -> str | None:
        """The version that `alias` names, or None when it is not set or the model does not exist."""
        return self.aliases(organisation, assistant).get(alias)

    def aliases(self, organisation: str, assistant: str) -> dict[str, str]:
        """Every alias and its version; empty when the model does not exist."""
        try:
            with self._converted("read aliases"):
                model = self._client.get_registered_model(model_name(organisation, assistant))
                return {alias: str(version) for alias, version in model.aliases.items()}
        except DependencyError as error:
            if error.fields.get("status") == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise

    def delete_alias(self, organisation: str, assistant: str, alias: str) -> None:
        """Remove `alias`; absent is fine."""
        with self._converted(f"remove alias `{alias}`"):
            self._client.delete_registered_model_alias(model_name(organisation, assistant), alias)

    def download(self, organisation: str, assistant: str, version: str, into: Path) -> Path:
        """Copy the version's files to `into` (created) and return the folder that holds them."""
        model = model_name(organisation, assistant)
        into.mkdir(parents=True, exist_ok=True)
        with self._converted(f"download version {version} of `{model}`"):
            from mlflow.artifacts import download_artifacts  # noqa: PLC0415

            uri = self._client.get_model_version_download_uri(model, version)
            return Path(download_artifacts(artifact_uri=uri, dst_path=str(into), tracking_uri=self.uri))

    @contextmanager
    def _converted(self, doing: str) -> Iterator[None]:
        try:
            from mlflow.exceptions import MlflowException  # noqa: PLC0415
        except ModuleNotFoundError as error:
            # A gateway's image: what needs the registry is the controller's work, and is done in a moment.
            message = "The registry's client is not installed in this process."
            raise DependencyError("mlflow", message, hint="Is the controller up? It brings adapters to the pods.") from error
        try:
            yield
        except MlflowException as error:
            raise self._failure(doing, said=error.message, status=error.error_code) from error
        except (OSError, SQLAlchemyError) as error:
            raise self._failure(doing, said=str(error), status=None) from error

    def _failure(self, doing: str, *, said: str, status: str | None) -> DependencyError:
        if _UNKNOWN_HOST in said:
            address = urlsplit(self.uri)
            # As the client says it: without the user, and without the port that the scheme implies.
            host = address.netloc.rpartition("@")[2].removesuffix({"http": ":80", "https": ":443"}.get(address.scheme, ""))
            return DependencyError(
                "mlflow",
                f"MLflow could not {doing}: the server at {address.scheme}://{host} does not let itself be called `{host}`.",
                # MLflow compares the whole of it, with the port, and the list replaces its own.
                hint=f"Start MLflow with `--allowed-hosts {host}`, beside the other names by which it is reached.",
                retryable=False,
            )
        hint = "Check space, rights and `registry_url`." if status is None else "Check `registry_url` and the server's log."
        failure = DependencyError("mlflow", f"MLflow could not {doing}: {said}.", hint=hint)
        failure.fields["status"] = status
        return failure


def _version(found: Any) -> RegisteredVersion:
    tags = {str(key): str(value) for key, value in found.tags.items()}
    return RegisteredVersion(str(found.name), str(found.version), found.run_id or None, tags)
