"""The files of an adapter: which ones count, and the digest that names them.

Called when an adapter is registered and again before an engine loads it. Whether the content is sound is decided by
`residency.verify`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from affinage.errors import UsageError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
VARIANT = "variant.json"
"""What the version is: read by people and by the platform, no part of the digest, since it names it."""
DIGESTED = (CONFIG, WEIGHTS)


def adapter_digest(folder: Path) -> str:
    """SHA-256 over names and digests of the files that make the adapter what it is."""
    whole = hashlib.sha256()
    for name in DIGESTED:
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                whole.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def stage_adapter(folder: Path, into: Path, *, base: str) -> str:
    """Copy what belongs to the adapter in `folder` to `into`, and nothing else; return its digest.

    The path of the base on the machine that trained is replaced by the base's name, so the same training gives the same
    digest anywhere and no path leaves the machine.

    Raises
    ------
    UsageError
        If the folder is no PEFT folder with safetensors, or a file in it is a link.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file() or (folder / name).is_symlink():
            raise UsageError(
                f"{folder} is no adapter: `{name}` is missing or a link.",
                hint=f"A PEFT folder has `{CONFIG}` and `{WEIGHTS}`; save with `save_pretrained(folder, safe_serialization=True)`.",
            )
    into.mkdir(parents=True, exist_ok=True)
    config = read_config(folder)
    config["base_model_name_or_path"] = base
    (into / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copyfile(folder / WEIGHTS, into / WEIGHTS, follow_symlinks=False)
    return adapter_digest(into)


def read_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json` as an object.

    Raises
    ------
    UsageError
        If it is not a JSON object.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / CONFIG} cannot be read: {error}.", hint="Save the adapter again with PEFT.") from error
    if not isinstance(config, dict):
        raise UsageError(f"{folder / CONFIG} must hold a JSON object.", hint="Save the adapter again with PEFT.")
    return config
