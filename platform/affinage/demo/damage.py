"""A deliberately damaged adapter, to show that the gate refuses it: every file check passes, only the answers are bad."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from affinage.engines.tensors import WIDTHS, read_header
from affinage.registry.adapter_files import CONFIG, WEIGHTS


def damage_adapter(folder: Path, out: Path, *, rng: np.random.Generator) -> Path:
    """Copy the adapter in `folder` to `out` with the numbers inside each LoRA B matrix shuffled.

    Shapes, types, norms and names stay, so verification has nothing to say; what was learned is gone.

    Returns
    -------
    Path
        `out`, a PEFT folder that can be registered.
    """
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / CONFIG, out / CONFIG)
    tensors = read_header(folder / WEIGHTS)
    data = bytearray((folder / WEIGHTS).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    for name, tensor in sorted(tensors.items()):
        if ".lora_B." in name:
            place = slice(start + tensor.start, start + tensor.end)
            # Moved as raw words: shuffling needs no arithmetic, so bfloat16 is no different from float32.
            words = np.frombuffer(bytes(data[place]), dtype=f"<u{WIDTHS[tensor.dtype]}")
            data[place] = rng.permutation(words).tobytes()
    (out / WEIGHTS).write_bytes(data)
    return out
