"""Train an adapter on a snapshot and register it: dataset → child process → registry.

The training runs in a process of its own with one thread, which ends with this one and gives its memory back; it keeps
checkpoints, so a killed training goes on with `resume`. Every later step may be repeated: the run's folder, the variant
and its MLflow version are found again by what they hold.
"""

from __future__ import annotations

import fcntl
import json
import logging
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import insert, select, update

from affinage.answers.variant import Variant
from affinage.blobs import BlobStore
from affinage.database.engine import Database
from affinage.database.tables.registry import training_run
from affinage.datasets.read import load_rows
from affinage.datasets.rows import KtoRow, row_to_line
from affinage.datasets.snapshots import Snapshot, get_snapshot, latest_snapshot
from affinage.declarations.model import AssistantSpec
from affinage.declarations.repository import get_assistant
from affinage.errors import AffinageError, ConfigurationError, ConflictError, DependencyError, RefusedError, UnknownObjectError, UsageError
from affinage.processes import spawn, stop
from affinage.registry.bases import Base
from affinage.registry.mlflow import MlflowRegistry, RegisteredVersion
from affinage.tuning.choice import Method, choose_method
from affinage.tuning.evaluate import KIND_OF_TASK
from affinage.tuning.recipe import Recipe, load_recipe, recipe_values, shipped_recipe
from affinage.tuning.register import register_files
from affinage.tuning.worker import TrainingJob

logger = logging.getLogger(__name__)
EMBEDDER = "package:minilm"
_TRAINER = {
    "OMP_NUM_THREADS": "1",
    # Kernels are kept for each length of a row. One training of 144 rows each: a peak of 2.7 GiB without this, 2.3 with it.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
}
_ERROR_LINES = 15


@dataclass(frozen=True)
class TrainedAdapter:
    """What a training gave. `metrics` are of the training: they say that it went well, never that it helped."""

    adapter: str
    variant: str
    model_version: str
    run_id: str
    metrics: Mapping[str, float]
    seconds: float
    peak_rss_bytes: int
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The keys of `adapter train --json`."""
        return {**asdict(self), "warnings": list(self.warnings)}


@dataclass(frozen=True)
class _Plan:
    spec: AssistantSpec
    snapshot: Snapshot
    method: Method
    warnings: tuple[str, ...]
    base: Base
    recipe: Recipe


def train_adapter(
    *,
    database: Database,
    blobs: BlobStore,
    registry: MlflowRegistry,
    state: Path,
    base_of: Callable[[str], Base],
    assistant: str,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
    dataset: str | None = None,
    recipe: str | None = None,
    resume: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> TrainedAdapter:
    """Train on the training split of a snapshot and register the adapter as a variant of the champion.

    Parameters
    ----------
    state
        Folder for the run: rows, checkpoints, log.
    base_of
        The registered base of an engine or embedder, by its name.
    dataset
        Id of the snapshot; None: the newest of the kind that the assistant's task needs.
    recipe
        TOML file; None: as the assistant declares, else the one that is shipped for the method.
    resume
        Go on with the last run of the same dataset and recipe that did not finish, instead of starting anew.
    progress
        Gets each line that the training prints, mostly JSON with step, steps and loss.

    Raises
    ------
    RefusedError
        If the snapshot is too small or one-sided for a training, or tainted.
    ConflictError
        If a training of this assistant is running.
    DependencyError
        If the training fails; its run is kept for `resume`.
    """
    plan = _plan(database, blobs, assistant=assistant, dataset=dataset, recipe=recipe, base_of=base_of)
    with _alone(state / "training" / f"{assistant}.lock", assistant):
        run_id, folder = _open_run(database, plan, state=state, resume=resume, now=now(), new_id=new_id)
        started = now()
        try:
            result = _train(plan, blobs, folder, seed=seed, resume=resume, progress=progress)
            variant, made = _register(database, registry, plan, run_id=run_id, result=result, seed=seed, now=now())
        except BaseException as error:
            _close_run(database, run_id, {"state": "failed", "ended_at": now()})
            logger.warning("A training failed.", extra={"run_id": run_id, "error": type(error).__name__})
            raise
        done = {"state": "finished", "variant_id": variant.variant_id, "metrics": _metrics(result), "ended_at": now()}
        _close_run(database, run_id, done)
    return TrainedAdapter(
        adapter=str(variant.adapter),
        variant=variant.variant_id,
        model_version=made.version,
        run_id=run_id,
        metrics=_metrics(result),
        seconds=(now() - started).total_seconds(),
        peak_rss_bytes=result["peak_rss_bytes"],
        warnings=plan.warnings,
    )


def _plan(
    database: Database, blobs: BlobStore, *, assistant: str, dataset: str | None, recipe: str | None, base_of: Callable[[str], Base]
) -> _Plan:
    with database.read() as connection:
        spec = get_assistant(connection, assistant)
        kind = KIND_OF_TASK[spec.task]
        snapshot = get_snapshot(connection, dataset) if dataset else latest_snapshot(connection, assistant=assistant, kind=kind)
    if snapshot is None:
        raise UnknownObjectError(f"{kind} dataset of", assistant, hint=f"Build one: `affinage dataset build {assistant} --kind {kind}`.")
    if snapshot.assistant != assistant:
        raise UsageError(f"Dataset `{snapshot.dataset_id}` belongs to `{snapshot.assistant}`.", hint=f"Give a dataset of `{assistant}`.")
    reasons = ["It learned from data that has to be forgotten: build it again."] if snapshot.tainted else []
    up = down = 0
    if snapshot.kind == "kto":
        labels = [row.desirable for row in load_rows(blobs, snapshot) if isinstance(row, KtoRow)]
        up, down = sum(labels), len(labels) - sum(labels)
    choice = choose_method(snapshot.kind, snapshot.counts, min_examples=spec.tuning.min_examples, up=up, down=down)
    if choice.method in {"dpo", "kto"}:
        reasons.append(f"Training by {choice.method} is not available: use corrections (sft).")
    if choice.method is None or reasons:
        raise RefusedError(
            f"Dataset `{snapshot.dataset_id}` is not trained on.",
            reasons=[*reasons, *choice.reasons],
            hint=" ".join([*reasons, *choice.reasons]) + " Collect more feedback, then build the dataset again.",
        )
    base = base_of(EMBEDDER if choice.method == "embedding" else spec.engine)
    return _Plan(spec, snapshot, choice.method, choice.warnings, base, _recipe(choice.method, recipe or spec.tuning.recipe))


def _recipe(method: Method, file: str | None) -> Recipe:
    kind: Literal["sft", "embedding"] = "embedding" if method == "embedding" else "sft"
    recipe = load_recipe(Path(file)) if file else shipped_recipe(kind)
    if recipe.kind != kind:
        raise ConfigurationError(f"The recipe {file} is of kind {recipe.kind}.", hint=f"This dataset needs a recipe of kind {kind}.")
    return recipe


@contextmanager
def _alone(lock: Path, assistant: str) -> Iterator[None]:
    """Hold the assistant's training lock; the kernel lets it go with the process, however it ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError(f"A training of `{assistant}` is running.", hint="Wait until it has ended.") from error
        yield


def _open_run(database: Database, plan: _Plan, *, state: Path, resume: bool, now: datetime, new_id: Callable[[], str]) -> tuple[str, Path]:
    """A new run, or the last one of the same dataset and recipe that did not finish."""
    with database.write() as connection:
        mine = training_run.c.assistant == plan.spec.name
        # We hold the lock, so a run that says it is running was killed.
        connection.execute(update(training_run).where(mine, training_run.c.state == "running").values(state="failed", ended_at=now))
        if resume:
            query = select(training_run).where(
                mine, training_run.c.dataset_id == plan.snapshot.dataset_id, training_run.c.state == "failed"
            )
            for row in connection.execute(query.order_by(training_run.c.created_at.desc())):
                if row.recipe == _described(plan):
                    connection.execute(
                        update(training_run).where(training_run.c.run_id == row.run_id).values(state="running", ended_at=None)
                    )
                    return row.run_id, Path(row.folder)
        run_id = new_id()
        folder = state / "training" / run_id
        connection.execute(
            insert(training_run).values(
                run_id=run_id,
                assistant=plan.spec.name,
                dataset_id=plan.snapshot.dataset_id,
                recipe=_described(plan),
                state="running",
                folder=str(folder),
                metrics={},
                created_at=now,
            )
        )
    return run_id, folder


def _described(plan: _Plan) -> dict[str, Any]:
    """What decides a run, besides its rows."""
    return {**recipe_values(plan.recipe), "method": plan.method, "base": plan.base.name, "base_digest": plan.base.digest}


def _close_run(database: Database, run_id: str, values: Mapping[str, Any]) -> None:
    with database.write() as connection:
        connection.execute(update(training_run).where(training_run.c.run_id == run_id).values(**values))


def _train(plan: _Plan, blobs: BlobStore, folder: Path, *, seed: int, resume: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Run the training process to its end and return what it wrote as its result."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / "rows.jsonl"
    rows.write_text("".join(f"{row_to_line(row)}\n" for row in load_rows(blobs, plan.snapshot, "train")), encoding="utf-8")
    job = TrainingJob(
        rows=rows,
        out=folder / "adapter",
        result=folder / "result.json",
        recipe=plan.recipe,
        seed=seed,
        base=Path(plan.base.path),
        base_name=plan.base.name,
        resume=resume,
    )
    job.write(folder / "job.json")
    command = [sys.executable, "-m", "affinage.tuning.worker", str(folder / "job.json")]
    process = spawn(command, environment=_TRAINER, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    last: deque[str] = deque(maxlen=_ERROR_LINES)
    try:
        assert process.stderr is not None
        with process.stderr, (folder / "log.txt").open("a", encoding="utf-8") as log:
            for raw in process.stderr:
                line = raw.decode(errors="replace").rstrip()
                log.write(line + "\n")
                last.append(line)
                progress(line)
        code = process.wait()
    finally:
        stop(process)
    if code != 0:
        raise _failed(plan.spec.name, code, last)
    result: dict[str, Any] = json.loads(job.result.read_text(encoding="utf-8"))
    return result


def _failed(assistant: str, code: int, lines: Iterable[str]) -> AffinageError:
    """What the training process said last: its own error, or the end of its output."""
    hint = f"Correct the cause, then go on with `affinage adapter train {assistant} --resume`."
    for line in reversed(list(lines)):
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and "message" in said:
            return DependencyError("tuning", f"The training of `{assistant}` failed: {said['message']}", hint=said.get("hint") or hint)
    tail = " | ".join(line for line in lines if line)
    return DependencyError("tuning", f"The training of `{assistant}` ended with code {code}: {tail or 'it said nothing'}", hint=hint)


def _register(
    database: Database,
    registry: MlflowRegistry,
    plan: _Plan,
    *,
    run_id: str,
    result: Mapping[str, Any],
    seed: int,
    now: datetime,
) -> tuple[Variant, RegisteredVersion]:
    params = {**_described(plan), "seed": seed, "dataset_id": plan.snapshot.dataset_id, "dataset_digest": plan.snapshot.digest}
    variant, made = register_files(
        database=database,
        registry=registry,
        spec=plan.spec,
        folder=Path(result["folder"]),
        base=plan.base,
        task="embedder" if plan.method == "embedding" else "generator",
        now=now,
        dataset_id=plan.snapshot.dataset_id,
        run_id=run_id,
        params=params,
        metrics=_metrics(result),
    )
    _close_run(database, run_id, {"mlflow_run_id": made.run_id})
    return variant, made


def _metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Figures of the training for MLflow and the run's record."""
    return {name: float(result[name]) for name in ("train_loss", "steps", "rows", "dropped", "trainable_parameters", "seconds")}
