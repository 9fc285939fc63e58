"""Bring an adapter from the registry onto an engine: fetched, verified, loaded, proved.

Nothing is trusted because it was good before: the files are checked each time an engine is to load them, and the
countersignature says that these very files passed the gate. Fetched files are kept by their immutable name.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from affinage.blobs import BlobStore
from affinage.database.engine import Database
from affinage.engines.pool import GeneratorPool
from affinage.engines.protocols import Generator
from affinage.errors import DependencyError, RefusedError, UsageError
from affinage.registry.adapter_files import adapter_digest, stage_adapter
from affinage.registry.bases import Base
from affinage.registry.countersign import check_countersignature
from affinage.registry.mlflow import MlflowRegistry
from affinage.registry.variants import StoredVariant
from affinage.residency.verify import MAX_RANK, AdapterFacts, verify_adapter
from affinage.tuning import golden

TOLERANCE = 0.05
"""Mean log-probability may differ by this much between two honest engines in bf16 (measured: 0.016)."""
MIN_RATIO = 5.0
"""The adapter must be this much nearer to its reference than the bare base is."""


@dataclass(frozen=True)
class Proof:
    """Means over the golden rows: how far the engine is from the reference, and how far the bare base is.

    Both are None when the engine cannot say how likely an answer is, or no golden rows were measured: then the adapter is
    verified and countersigned, and not proved.
    """

    from_reference: float | None
    from_base: float | None


@dataclass(frozen=True)
class Ready:
    """An adapter that serves, and how long it took to get there."""

    adapter: str
    facts: AdapterFacts
    proof: Proof
    seconds: float


def fetch_adapter(registry: MlflowRegistry, stored: StoredVariant, *, adapters: Path, base: Base) -> Path:
    """Folder with the files of the variant's adapter; downloaded at the first call.

    Parameters
    ----------
    adapters
        Where fetched adapters are kept, one folder for each name.

    Raises
    ------
    UsageError
        If the variant has no adapter.
    RefusedError
        If the registry's files are not those that were registered.
    """
    name, digest = stored.variant.adapter, stored.variant.adapter_digest
    if name is None or stored.model_version is None:
        raise UsageError(f"Variant `{stored.variant_id}` has no adapter in the registry.", hint="Only a tuned variant can be loaded.")
    target = adapters / name
    if target.is_dir() and adapter_digest(target) == digest:
        return target
    adapters.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=adapters, prefix=".fetching-") as temporary:
        found = registry.download(stored.organisation, stored.variant.assistant, stored.model_version, Path(temporary) / "download")
        staged = Path(temporary) / "staged"
        if stage_adapter(found, staged, base=base.name) != digest:
            raise RefusedError(
                f"The files of `{name}` in the registry are not those that were registered.",
                reasons=["Somebody changed the files of this version."],
                hint="Register the adapter again as a new version, and find out who changed this one.",
            )
        if target.exists():
            shutil.rmtree(target)  # damaged since it was fetched
        staged.replace(target)
    return target


def verified_folder(
    registry: MlflowRegistry, stored: StoredVariant, *, adapters: Path, base: Base, max_rank: int = MAX_RANK
) -> tuple[Path, AdapterFacts]:
    """Fetch the variant's adapter and check its files against its record and the engine's base.

    Raises
    ------
    RefusedError
        With every fault as a reason.
    """
    folder = fetch_adapter(registry, stored, adapters=adapters, base=base)
    facts = verify_adapter(
        folder,
        base_digest=base.digest,
        declared_base_digest=stored.variant.base_digest,
        expected_digest=stored.variant.adapter_digest,
        base_shapes=base.shapes,
        max_rank=max_rank,
    )
    return folder, facts


def make_ready(
    *,
    database: Database,
    blobs: BlobStore,
    registry: MlflowRegistry,
    generator: Generator,
    stored: StoredVariant,
    adapters: Path,
    base: Base,
    now: Callable[[], datetime],
) -> Ready:
    """Load the variant's adapter into `generator` and prove that it is live; the same again is quick.

    Raises
    ------
    RefusedError
        If the files are not sound, not countersigned, or the engine does not answer as the adapter did.
    """
    started = now()
    folder, facts = verified_folder(registry, stored, adapters=adapters, base=base)
    with database.read() as connection:
        check_countersignature(connection, variant_id=stored.variant_id, adapter_digest=facts.digest)
    name = str(stored.variant.adapter)
    generator.load_adapter(name, folder)
    if name not in generator.adapters():
        raise DependencyError("engine", f"The engine did not keep `{name}` after loading it.", hint="Look at the engine's log.")
    try:
        proof = prove(generator, golden.load(blobs, facts.digest), adapter=name)
    except RefusedError:
        # A pod that joined and is wrong says nothing of those that serve with the adapter already.
        (generator.withdraw_adapter if isinstance(generator, GeneratorPool) else generator.unload_adapter)(name)
        raise
    return Ready(name, facts, proof, (now() - started).total_seconds())


def prove(generator: Generator, rows: Sequence[golden.GoldenRow], *, adapter: str) -> Proof:
    """Compare the engine's log-probabilities of golden answers with the reference.

    Raises
    ------
    RefusedError
        If they are further from the reference than `TOLERANCE`, or nearer to the bare base than an adapter that is live.
    """
    if not rows or not isinstance(generator, golden.HasLogProbabilities):
        return Proof(None, None)
    seen = [float(np.mean(generator.log_probabilities(row.messages, row.target, adapter=adapter))) for row in rows]
    from_reference = float(np.mean([abs(value - row.adapter) for value, row in zip(seen, rows, strict=True)]))
    from_base = float(np.mean([abs(value - row.base) for value, row in zip(seen, rows, strict=True)]))
    # NaN fails both comparisons, as it must.
    if not from_reference <= TOLERANCE:
        raise RefusedError(
            f"`{adapter}` is not live on this engine.",
            reasons=[f"Its answers differ from the reference by {from_reference:.3f} in mean log-probability; {TOLERANCE} is allowed."],
            hint="Check the engine's base and prompt template; then load it again.",
        )
    if not from_base >= MIN_RATIO * from_reference:
        raise RefusedError(
            f"`{adapter}` is not told apart from the bare base on this engine.",
            reasons=[f"It is {from_reference:.3f} from its reference and {from_base:.3f} from the base."],
            hint="The engine may ignore the adapter; load it again.",
        )
    return Proof(from_reference, from_base)


def unload(generator: Generator, stored: StoredVariant, *, in_use: Mapping[str, int]) -> bool:
    """Take the variant's adapter off the engine, unless requests are being answered with it; returns whether it is gone."""
    name = stored.variant.adapter
    if name is None or in_use.get(name, 0) > 0:
        return False
    generator.unload_adapter(name)
    return True
