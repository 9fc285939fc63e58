"""PEFT folders made without torch, sound or tampered with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

HIDDEN = 16
MODULES = ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj")
SHAPES = {f"{module}.weight": (HIDDEN, HIDDEN) for module in MODULES}
"""Of a base that the adapters fit."""


def write_adapter(
    folder: Path,
    *,
    seed: int = 0,
    rank: int = 4,
    config: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Any] | None = None,
    dtype: Any = np.float32,
) -> Path:
    """A LoRA folder on two modules; `config` and `tensors` replace or add entries (None removes a tensor)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    weights: dict[str, Any] = {}
    for module in MODULES:
        weights[f"base_model.model.{module}.lora_A.weight"] = rng.normal(size=(rank, HIDDEN)).astype(dtype)
        weights[f"base_model.model.{module}.lora_B.weight"] = rng.normal(size=(HIDDEN, rank)).astype(dtype)
    for name, value in (tensors or {}).items():
        if value is None:
            del weights[name]
        else:
            weights[name] = value
    save_file(weights, folder / "adapter_model.safetensors")
    values = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["q_proj", "down_proj"],
        "bias": "none",
        "base_model_name_or_path": "/somewhere/base",
        **(config or {}),
    }
    (folder / "adapter_config.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


def write_base(folder: Path, *, seed: int = 0, card: str | None = "---\nlicense: apache-2.0\n---\n", **config: Any) -> Path:
    """A tiny base in Hugging Face form: enough to be registered and to check shapes against, not to answer."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    save_file({name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 512, **config}), encoding="utf-8")
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
    return folder
