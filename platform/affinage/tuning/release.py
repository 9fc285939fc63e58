"""Make a tuned embedder ready to serve: its vectors become new index generations beside the old ones.

An adapter of the generator is ready as it is. One of the embedder changes every vector, so the variant that serves is
another one than the variant that was judged: the same adapter and gate, with generations that hold its vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from affinage.database.engine import Database
from affinage.errors import RefusedError
from affinage.index.builds import get_generation
from affinage.registry.countersign import countersign
from affinage.registry.follow import variant_tags
from affinage.registry.mlflow import MlflowRegistry
from affinage.registry.variants import StoredVariant, save_variant, stored_variant
from affinage.tuning.run import EMBEDDER


def release_variant(
    *,
    database: Database,
    registry: MlflowRegistry,
    variant_id: str,
    folder_of: Callable[[StoredVariant], Path],
    build: Callable[[str, Mapping[str, Any]], str],
    now: Callable[[], datetime],
) -> StoredVariant:
    """The variant that can serve: this one, or for an embedder's adapter the one on generations with its vectors.

    Parameters
    ----------
    folder_of
        Verified files of the variant's adapter.
    build
        Builds a generation of a source with an embedder, or finds the one that was built, and returns its id.

    Raises
    ------
    RefusedError
        If the adapter has not passed the gate.
    """
    with database.read() as connection:
        stored = stored_variant(connection, variant_id)
        if stored.adapter_task != "embedder":
            return stored
        embedders = [get_generation(connection, one).embedder for one in stored.variant.generations.values()]
    if stored.gate_id is None:
        raise RefusedError(
            f"Variant `{variant_id}` gets no index of its own.",
            reasons=["It has not passed the gate."],
            hint=f"Run `affinage adapter evaluate {variant_id}`.",
        )
    if all(embedder.get("adapter") == stored.variant.adapter for embedder in embedders):
        return stored
    embedder = {"name": EMBEDDER, "adapter": stored.variant.adapter}
    generations = {source: build(source, embedder) for source in stored.variant.generations}
    released = replace(stored.variant, generations=generations)
    made = registry.register_variant(
        organisation=stored.organisation,
        assistant=released.assistant,
        variant_id=released.variant_id,
        spec={**asdict(released), "adapter_task": "embedder"},
        adapter=folder_of(stored),
        tags=variant_tags(released, adapter_task="embedder", dataset_id=stored.dataset_id, judged_as=variant_id),
    )
    with database.write() as connection:
        save_variant(
            connection, released, organisation=stored.organisation, now=now(), adapter_task="embedder", dataset_id=stored.dataset_id,
            run_id=stored.run_id, model_version=made.version,
        )  # fmt: skip
        countersign(connection, variant_id=released.variant_id, gate_id=stored.gate_id, now=now())
        return stored_variant(connection, released.variant_id)
