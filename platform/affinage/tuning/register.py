"""Put an adapter's files into the registry as a variant of what serves now.

The last step of a training, and the only step for an adapter that was trained elsewhere.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from affinage.answers.defaults import default_variant
from affinage.answers.variant import Variant
from affinage.database.engine import Database
from affinage.declarations.model import AssistantSpec
from affinage.index.generations import serving_generations
from affinage.registry.adapter_files import stage_adapter
from affinage.registry.bases import Base
from affinage.registry.follow import variant_tags
from affinage.registry.mlflow import MlflowRegistry, RegisteredVersion
from affinage.registry.names import adapter_name
from affinage.registry.variants import AdapterTask, champion_of, save_variant


def register_files(
    *,
    database: Database,
    registry: MlflowRegistry,
    spec: AssistantSpec,
    folder: Path,
    base: Base,
    task: AdapterTask,
    now: datetime,
    dataset_id: str | None = None,
    run_id: str | None = None,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
) -> tuple[Variant, RegisteredVersion]:
    """Register the PEFT files in `folder`; the same files again give the same variant and version.

    Parameters
    ----------
    base
        The weights the adapter was trained on.
    task
        Whether it belongs to the generator or to the embedder.

    Raises
    ------
    UsageError
        If the folder is no PEFT folder with safetensors.
    """
    parent = current_variant(database, spec, base_digest_of=lambda: base.digest if task == "generator" else None)
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / "adapter"
        digest = stage_adapter(folder, staged, base=base.name)
        name = adapter_name(spec.name, digest)
        variant = replace(parent, adapter=name, adapter_digest=digest, base_digest=base.digest)
        made = registry.register_variant(
            organisation=spec.organisation,
            assistant=spec.name,
            variant_id=variant.variant_id,
            spec={**asdict(variant), "adapter_task": task},
            adapter=staged,
            tags=variant_tags(variant, adapter_task=task, dataset_id=dataset_id, run_id=run_id),
            params=params,
            metrics=metrics,
        )
    with database.write() as connection:
        save_variant(
            connection, variant, organisation=spec.organisation, now=now, adapter_task=task, dataset_id=dataset_id, run_id=run_id,
            model_version=made.version,
        )  # fmt: skip
    return variant, made


def current_variant(database: Database, spec: AssistantSpec, *, base_digest_of: Callable[[], str | None]) -> Variant:
    """What serves the assistant: its champion, or before the first move what its declaration says.

    Parameters
    ----------
    base_digest_of
        Digest of the declared engine's base; asked only before the first move, for afterwards that engine may be gone.
    """
    with database.read() as connection:
        champion = champion_of(connection, spec.name)
        generations = serving_generations(connection, spec.sources)
    return champion or default_variant(spec, generations=generations, base_digest=base_digest_of())
