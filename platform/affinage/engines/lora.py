"""LoRA adapters without torch: a PEFT folder added into a dictionary of numpy weights.

Called by the packaged embedder. Only plain LoRA is understood; what would be silently ignored is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinage.errors import DependencyError, UnknownObjectError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_UNSUPPORTED = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "layer_replication", "lora_bias")


def merge_lora(weights: Mapping[str, NDArray[np.float32]], folder: Path) -> dict[str, NDArray[np.float32]]:
    """`weights` with W + (alpha / r) · B @ A in place of each adapted W; the rest is shared, not copied.

    Parameters
    ----------
    weights
        By module name with the suffix `.weight`, each (out, in).
    folder
        PEFT folder: adapter_config.json and adapter_model.safetensors.

    Raises
    ------
    UnknownObjectError
        If the folder lacks one of the two files.
    DependencyError
        If the adapter is not plain LoRA, or does not fit these weights.
    """
    config, tensors = _read(folder)
    unsupported = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("peft_type") != "LORA" or unsupported or config.get("bias", "none") != "none":
        raise _refused(folder, f"it is not plain LoRA ({', '.join(unsupported) or config.get('peft_type') or 'no peft_type'})")
    rank = int(config["r"])
    scale = float(config["lora_alpha"]) / (rank**0.5 if config.get("use_rslora") else rank)
    merged = dict(weights)
    for key in sorted(tensors):
        if ".lora_A." not in key:
            if ".lora_B." not in key:
                raise _refused(folder, f"`{key}` is not a LoRA matrix")
            continue
        module = key.removeprefix(_PREFIX).split(".lora_A.")[0]
        a, b = tensors[key].astype(np.float32), tensors.get(key.replace(".lora_A.", ".lora_B."))
        target = weights.get(f"{module}.weight")
        if b is None or target is None or target.shape != (b.shape[0], a.shape[1]) or a.shape[0] != rank or b.shape[1] != rank:
            raise _refused(folder, f"`{module}` does not fit")
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise _refused(folder, f"`{module}` holds values that are not finite")
        merged[f"{module}.weight"] = target + np.float32(scale) * (b.astype(np.float32) @ a)
    return merged


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.numpy import load_file  # noqa: PLC0415

    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return config, load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise UnknownObjectError("adapter folder", str(folder), hint=f"It needs {CONFIG} and {WEIGHTS}.") from error
    except (SafetensorError, UnicodeDecodeError, json.JSONDecodeError, OSError) as error:
        raise _refused(folder, f"it cannot be read: {error}") from error


def _refused(folder: Path, why: str) -> DependencyError:
    return DependencyError(
        "engine",
        f"The adapter in {folder} cannot be added to the embedder: {why}.",
        hint="Train it with `affinage adapter train`, or save plain LoRA with PEFT.",
        retryable=False,
    )
