"""The trainer's own process: `python -m affinage.tuning.worker JOB.json`.

Started by `run.py` with one thread (`OMP_NUM_THREADS=1`). Progress goes to standard error, one JSON object a line; the
result is written to the file that the job names, whole or not at all. Exit codes are those of the command line.

The job file holds `kind` (sft or embedding), `rows` (file of JSON lines, as in a snapshot), `out`, `result`, `recipe` (its
values), `seed`, and optionally `base` (folder; required for sft), `base_name` and `resume`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affinage.errors import AffinageError, UsageError
from affinage.tuning.recipe import EmbeddingRecipe, Recipe, SftRecipe, parse_recipe, recipe_values
from affinage.tuning.training import TrainingResult

# No library may call home or look for a newer model.
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One training, as written to the job file."""

    rows: Path
    out: Path
    result: Path
    recipe: Recipe
    seed: int
    base: Path | None = None
    base_name: str = ""
    resume: bool = False

    def write(self, file: Path) -> None:
        """Write the job file."""
        values: dict[str, Any] = {
            "kind": self.recipe.kind,
            "rows": str(self.rows),
            "out": str(self.out),
            "result": str(self.result),
            "recipe": recipe_values(self.recipe),
            "seed": self.seed,
            "base": str(self.base) if self.base else None,
            "base_name": self.base_name,
            "resume": self.resume,
        }
        file.write_text(json.dumps(values, indent=2), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> TrainingJob:
        """Read a job file.

        Raises
        ------
        UsageError
            If the file is missing or lacks a key.
        """
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            return cls(
                rows=Path(values["rows"]),
                out=Path(values["out"]),
                result=Path(values["result"]),
                recipe=parse_recipe({"kind": values["kind"], **values["recipe"]}, origin=str(file)),
                seed=int(values["seed"]),
                base=Path(values["base"]) if values.get("base") else None,
                base_name=values.get("base_name") or "",
                resume=bool(values.get("resume", False)),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"The job file {file} cannot be read: {error!r}.") from error


def run_job(job: TrainingJob) -> TrainingResult:
    """Train as the job says, in this process."""
    rows = _read_rows(job.rows)
    if isinstance(job.recipe, SftRecipe):
        from affinage.tuning.sft import SftExample, train_sft  # noqa: PLC0415

        if job.base is None:
            raise UsageError("A job of kind sft needs `base`, the folder of the base's weights.")
        return train_sft(
            rows=[SftExample.from_json(row) for row in rows],
            base=job.base,
            base_name=job.base_name,
            out=job.out,
            recipe=job.recipe,
            seed=job.seed,
            resume=job.resume,
            progress=_report,
        )
    assert isinstance(job.recipe, EmbeddingRecipe)
    from affinage.engines.minilm import NAME  # noqa: PLC0415
    from affinage.tuning.embedding import EmbeddingPair, train_embedding  # noqa: PLC0415

    return train_embedding(
        pairs=[EmbeddingPair.from_json(row) for row in rows],
        base=job.base,
        base_name=job.base_name or NAME,
        out=job.out,
        recipe=job.recipe,
        seed=job.seed,
        resume=job.resume,
        progress=_report,
    )


def main(arguments: Sequence[str]) -> int:
    """Run one job file; the exit code."""
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    try:
        if len(arguments) != 1:
            raise UsageError("Give one job file: python -m affinage.tuning.worker JOB.json")
        job = TrainingJob.read(Path(arguments[0]))
        result = run_job(job)
        temporary = job.result.with_name(f".{job.result.name}")
        temporary.write_text(json.dumps(result.as_dict()), encoding="utf-8")
        temporary.replace(job.result)
    except AffinageError as error:
        _report({"error": type(error).__name__, "message": error.message, "hint": error.hint})
        return error.exit_code
    return 0


def _read_rows(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise UsageError(f"The rows in {file} cannot be read: {error}.") from error


def _report(values: Mapping[str, object]) -> None:
    sys.stderr.write(json.dumps(values) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
