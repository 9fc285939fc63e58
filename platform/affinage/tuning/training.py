"""What both trainers share: where they work, how they resume after a kill, and how a finished adapter appears.

A training works in `<out>.work` and renames the finished folder to `out` at its end, so `out` is complete or absent. A
checkpoint counts only with its marker, written after everything else of it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from affinage.errors import AffinageError

Progress = Callable[[Mapping[str, object]], None]
"""Called after each step with step, steps and loss."""

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_MARKER = "complete"


@dataclass(frozen=True)
class TrainingResult:
    """A finished training. `seconds` and `peak_rss_bytes` are of the process that finished it."""

    kind: str
    folder: str
    rows: int
    dropped: int
    steps: int
    resumed_from_step: int | None
    train_loss: float
    trainable_parameters: int
    seed: int
    recipe_digest: str
    seconds: float
    peak_rss_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """For the worker's result file and the run's record."""
        return asdict(self)


class TrainingFailedError(AffinageError):
    """The training cannot give a usable adapter; nothing was published."""


class Workspace:
    """The working folder of one training.

    Parameters
    ----------
    out
        Where the adapter is to appear.
    job_digest
        Over rows, recipe, base and seed: a checkpoint of another job is never continued.
    resume
        Continue after the last complete checkpoint; without it an earlier attempt is removed.
    """

    def __init__(self, out: Path, *, job_digest: str, resume: bool) -> None:
        self.out = out
        self.folder = out.with_name(out.name + ".work")
        self._started = time.monotonic()
        note = self.folder / "job"
        same = note.is_file() and note.read_text(encoding="utf-8") == job_digest
        if self.folder.exists() and not (resume and same):
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        note.write_text(job_digest, encoding="utf-8")

    def finished(self) -> TrainingResult | None:
        """The result of this very job, when it had been published already."""
        file = self.folder / "result.json"
        if not (file.is_file() and self.out.is_dir()):
            return None
        return TrainingResult(**json.loads(file.read_text(encoding="utf-8")))

    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint; incomplete ones are removed."""
        found: list[tuple[int, Path]] = []
        for path in self.folder.glob("checkpoint-*"):
            if (path / _MARKER).is_file():
                found.append((int(path.name.removeprefix("checkpoint-")), path))
            else:
                shutil.rmtree(path)
        return max(found)[1] if found else None

    def publish(self, save: Callable[[Path], None], *, base_name: str) -> Path:
        """Let `save` write the adapter, keep its two files, check them, and rename them into place."""
        ready = self.folder / "ready"
        shutil.rmtree(ready, ignore_errors=True)
        save(ready)
        for path in ready.iterdir():
            if path.name not in (CONFIG, WEIGHTS):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        _check_finite(ready / WEIGHTS)
        config = json.loads((ready / CONFIG).read_text(encoding="utf-8"))
        # The library writes this machine's path; the name is the same everywhere, and so is the digest.
        config["base_model_name_or_path"] = base_name
        (ready / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        if self.out.exists():
            shutil.rmtree(self.out)
        ready.replace(self.out)
        return self.out

    def close(self, result: TrainingResult) -> None:
        """Write the result and drop the checkpoints."""
        temporary = self.folder / ".result.json"
        temporary.write_text(json.dumps(result.as_dict()), encoding="utf-8")
        temporary.replace(self.folder / "result.json")
        for path in self.folder.glob("checkpoint-*"):
            shutil.rmtree(path)

    @property
    def seconds(self) -> float:
        """Since this process began with it."""
        return time.monotonic() - self._started


def job_digest(*parts: str) -> str:
    """One digest over everything that decides a training."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make_watch(progress: Progress) -> Any:
    """A Trainer callback: reports each step, marks finished checkpoints, and ends a training that diverged."""
    from transformers import TrainerCallback  # noqa: PLC0415

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:  # noqa: ARG002
            values = logs or {}
            for name in ("loss", "grad_norm"):
                if name in values and not math.isfinite(float(values[name])):
                    raise TrainingFailedError(
                        f"The training diverged at step {state.global_step}: {name} is {values[name]}.",
                        hint="Lower the recipe's learning_rate, and look for empty or broken rows.",
                    )
            if "loss" in values:
                progress({"step": state.global_step, "steps": state.max_steps, "loss": round(float(values["loss"]), 4)})

        def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            for path in folder.rglob("*"):  # a sentence-embedding model has a folder for each of its parts
                if path.is_file():
                    with path.open("rb") as stream:
                        os.fsync(stream.fileno())
            (folder / _MARKER).touch()

    return Watch()


def trainer_options(workspace: Workspace, recipe: Any, seed: int, *, rows_at_once: int | None = None) -> dict[str, Any]:
    """Arguments that both trainers give to transformers' Trainer; `rows_at_once` divides a batch into several passes."""
    rows = rows_at_once or recipe.batch
    return {
        "output_dir": str(workspace.folder),
        "num_train_epochs": recipe.epochs,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": recipe.batch // rows,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": recipe.warmup_ratio,  # a value below 1 is a share of all steps
        "max_grad_norm": recipe.max_grad_norm,
        "weight_decay": 0.0,
        "optim": "adamw_torch",
        "seed": seed,
        "data_seed": seed,
        "save_strategy": "steps",
        "save_steps": recipe.checkpoint_steps,
        "save_total_limit": 2,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": True,
        "gradient_checkpointing": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
    }


def _check_finite(file: Path) -> None:
    import numpy as np  # noqa: PLC0415
    from safetensors.numpy import load_file  # noqa: PLC0415

    for name, tensor in load_file(file).items():
        if not np.isfinite(tensor).all():
            raise TrainingFailedError(f"The adapter's `{name}` holds values that are not finite.", hint="Lower the recipe's learning_rate.")
