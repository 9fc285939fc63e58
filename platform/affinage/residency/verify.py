"""Whether an adapter's files may come near an engine, decided from the files alone.

An adapter is data from outside: a data scientist's notebook, a registry that others can write to. So nothing is loaded
here; names, sizes, the header and the numbers are looked at. Every fault found is named, not only the first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affinage.engines.tensors import FLOATS, Tensor, all_finite, read_header
from affinage.errors import RefusedError
from affinage.registry.adapter_files import CONFIG, VARIANT, WEIGHTS, adapter_digest

MAX_RANK = 64
"""vLLM reserves memory for its `max_lora_rank` per slot; 64 is four times what our recipes use."""
MAX_BYTES = 2 * 1024**3
MAX_TEXT_BYTES = 1024 * 1024
TEXTS = frozenset({CONFIG, VARIANT, "README.md"})
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
_LORA = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")
# Settings of PEFT that do more than add low-rank matrices, with the value that switches them off.
_FORBIDDEN: Mapping[str, tuple[Any, ...]] = {
    "auto_mapping": (None,),
    "auto_map": (None,),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None,),
    "layer_replication": (None,),
    "megatron_config": (None,),
    "bias": (None, "none"),
    "use_dora": (None, False),
    "lora_bias": (None, False),
}


@dataclass(frozen=True)
class AdapterFacts:
    """What verification found: the digest of the files, the largest rank, the adapted modules."""

    digest: str
    rank: int
    modules: tuple[str, ...]


def verify_adapter(
    folder: Path,
    *,
    base_digest: str | None,
    declared_base_digest: str | None,
    expected_digest: str | None = None,
    max_rank: int = MAX_RANK,
    base_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> AdapterFacts:
    """Check the files in `folder`.

    Parameters
    ----------
    base_digest
        Of the base the engine holds.
    declared_base_digest
        The base that the adapter says it was trained on; None when nobody said.
    expected_digest
        Of the adapter's files as registered; None for files that are not registered yet.
    base_shapes
        Shape (out, in) of each weight of the base by name; None skips this check, which the engine's own service repeats.

    Raises
    ------
    RefusedError
        With every fault as a reason.
    """
    reasons = _files(folder)
    if base_digest != declared_base_digest:
        reasons.append(f"It was trained on the base {_short(declared_base_digest)}, and the engine holds {_short(base_digest)}.")
    modules: dict[str, int] = {}
    if not reasons:
        config = _config(folder, reasons)
        tensors = _tensors(folder, reasons)
        if config is not None and tensors is not None:
            _check_config(config, max_rank, reasons)
            modules = _check_tensors(tensors, config, max_rank, base_shapes, reasons)
            if not all_finite(folder / WEIGHTS, tensors):
                reasons.append("Its weights hold infinite values or NaN.")
    if not reasons and expected_digest is not None and adapter_digest(folder) != expected_digest:
        reasons.append("Its files are not those that were registered.")
    if reasons:
        raise RefusedError(
            f"The adapter in {folder.name} is refused.", reasons=reasons, hint="Train it again with PEFT (LoRA, safetensors) on this base."
        )
    return AdapterFacts(adapter_digest(folder), max(modules.values()), tuple(sorted(modules)))


def _files(folder: Path) -> list[str]:
    reasons = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            reasons.append(f"`{name}` is a symbolic link.")
        elif path.suffix.lower() in PICKLES:
            reasons.append(f"`{name}` may be a pickle, which runs code when it is read.")
        elif not path.is_file() or name not in TEXTS | {WEIGHTS}:
            reasons.append(f"`{name}` does not belong to an adapter.")
        elif path.stat().st_size > (MAX_TEXT_BYTES if name in TEXTS else MAX_BYTES):
            reasons.append(f"`{name}` is too large: {path.stat().st_size} bytes.")
    reasons += [f"`{name}` is missing." for name in (CONFIG, WEIGHTS) if not (folder / name).exists()]
    return reasons


def _config(folder: Path, reasons: list[str]) -> dict[str, Any] | None:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        reasons.append(f"`{CONFIG}` is not a JSON object.")
        return None
    return config


def _tensors(folder: Path, reasons: list[str]) -> dict[str, Tensor] | None:
    try:
        tensors = read_header(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        reasons.append(f"`{WEIGHTS}` is not sound: {error}.")
        return None
    others = [f"The tensor `{name}` has type {tensor.dtype}." for name, tensor in tensors.items() if tensor.dtype not in FLOATS]
    if others:
        reasons += [*others, f"The weights of an adapter are {', '.join(FLOATS)}."]
        return None
    return tensors


def _check_config(config: Mapping[str, Any], max_rank: int, reasons: list[str]) -> None:
    if config.get("peft_type") != "LORA":
        reasons.append(f"Its kind is {config.get('peft_type')}, and only LORA is allowed.")
    for key, allowed in _FORBIDDEN.items():
        if config.get(key) not in allowed:
            reasons.append(f"`{key}` is set in `{CONFIG}`: it does more than add low-rank matrices.")
    ranks = [config.get("r"), *_mapping(config.get("rank_pattern")).values()]
    for rank in ranks:
        if type(rank) is not int or not 1 <= rank <= max_rank:
            reasons.append(f"Its rank is {rank}, and 1 to {max_rank} are allowed.")


def _check_tensors(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    max_rank: int,
    base_shapes: Mapping[str, tuple[int, ...]] | None,
    reasons: list[str],
) -> dict[str, int]:
    """Rank by adapted module; adds what is wrong to `reasons`."""
    sides: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        found = _LORA.match(name)
        if found is None:
            reasons.append(f"The tensor `{name}` is no part of a LoRA.")
        else:
            sides.setdefault(found["module"], {})[found["side"]] = tensor
    if not sides:
        reasons.append("It has no weights.")
    ranks: dict[str, int] = {}
    allowed_ranks = {config.get("r"), *_mapping(config.get("rank_pattern")).values()}
    for module, pair in sorted(sides.items()):
        fault = _pair_fault(pair, allowed_ranks, max_rank) or _place_fault(module, pair, config, base_shapes)
        if fault:
            reasons.append(f"`{module}`: {fault}.")
        else:
            ranks[module] = pair["A"].shape[0]
    return ranks


def _pair_fault(pair: Mapping[str, Tensor], allowed_ranks: set[Any], max_rank: int) -> str | None:
    if pair.keys() != {"A", "B"}:
        return "one of its two matrices is missing"
    a, b = pair["A"].shape, pair["B"].shape
    if len(a) != 2 or len(b) != 2:
        return "its matrices do not have two dimensions"
    if a[0] != b[1]:
        return f"its matrices do not fit: {list(a)} and {list(b)}"
    if a[0] not in allowed_ranks or not 1 <= a[0] <= max_rank:
        return f"its rank {a[0]} is not the one that `{CONFIG}` says"
    return None


def _place_fault(
    module: str, pair: Mapping[str, Tensor], config: Mapping[str, Any], base_shapes: Mapping[str, tuple[int, ...]] | None
) -> str | None:
    targets = config.get("target_modules")
    if isinstance(targets, list) and not any(module == target or module.endswith(f".{target}") for target in targets):
        return f"it is not among the target modules {targets}"
    if base_shapes is None:
        return None
    shape = _shape_of(module, base_shapes)
    if shape is None:
        return "the base has no such module"
    if shape != (pair["B"].shape[0], pair["A"].shape[1]):
        return f"it is made for a weight of {[pair['B'].shape[0], pair['A'].shape[1]]}, and the base has {list(shape)}"
    return None


def _shape_of(module: str, base_shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Shape of the module's weight; libraries put different prefixes (`model.`, `0.auto_model.`) before the same module."""
    name = f"{module}.weight"
    if name in base_shapes:
        return base_shapes[name]
    fitting = {shape for key, shape in base_shapes.items() if key.endswith(f".{name}") or name.endswith(f".{key}")}
    return fitting.pop() if len(fitting) == 1 else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _short(digest: str | None) -> str:
    return f"{digest[:12]}…" if digest else "(none named)"
