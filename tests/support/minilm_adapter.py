"""A LoRA folder for the packaged embedder, made without torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from affinage.engines.minilm import DIMENSIONS

_MODULES = tuple(f"encoder.layer.{layer}.attention.self.{side}" for layer in (0, 5) for side in ("query", "value"))


def write_minilm_adapter(folder: Path, *, seed: int, rank: int = 4, width: int = DIMENSIONS) -> Path:
    """Changes every vector; `width` other than the model's does not fit it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    weights = {}
    for module in _MODULES:
        weights[f"base_model.model.{module}.lora_A.weight"] = rng.normal(size=(rank, width)).astype(np.float32)
        weights[f"base_model.model.{module}.lora_B.weight"] = rng.normal(scale=0.05, size=(width, rank)).astype(np.float32)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["query", "value"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
