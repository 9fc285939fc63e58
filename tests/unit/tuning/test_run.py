"""A training from dataset to registered variant; the trainer's process is a stand-in that writes files at once."""

from __future__ import annotations

import fcntl
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from affinage import processes
from affinage.blobs.folder import FolderBlobs
from affinage.database.engine import Database
from affinage.database.tables.datasets import dataset
from affinage.database.tables.registry import training_run
from affinage.datasets.rows import SftRow
from affinage.datasets.snapshots import Snapshot, blob_name, counts_of, save_snapshot, snapshot_bytes
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.engines.protocols import Message
from affinage.errors import ConfigurationError, ConflictError, DependencyError, RefusedError, UnknownObjectError, UsageError
from affinage.registry.adapter_files import adapter_digest
from affinage.registry.bases import Base
from affinage.registry.mlflow import RegisteredVersion
from affinage.registry.variants import list_variants
from affinage.tuning.run import TrainedAdapter, train_adapter

BASE = Base("package:smollm2", "b" * 64, "Apache-2.0", 512, None, "/nowhere/base", None)


@dataclass
class Registry:
    """Remembers what was registered."""

    registered: dict[str, dict[str, Any]] = field(default_factory=dict)
    fail: bool = False

    def register_variant(self, *, variant_id: str, adapter: Path, **rest: Any) -> RegisteredVersion:
        if self.fail:
            raise DependencyError("mlflow", "MLflow is away.")
        self.registered.setdefault(variant_id, {"digest": adapter_digest(adapter), "version": str(len(self.registered) + 1), **rest})
        return RegisteredVersion("m", self.registered[variant_id]["version"], "mlflow-run")


@dataclass
class World:
    database: Database
    blobs: FolderBlobs
    state: Path
    clock: Any
    new_id: Any
    registry: Registry

    def snapshot(self, name: str, rows: int, *, kind: str = "extraction", assistant: str = "calls") -> None:
        made = [
            SftRow(
                example_id=f"{name}-{i:04d}",
                split="test" if i % 5 == 0 else "train",
                messages=(Message("user", f"call {i}"),),
                target="{}",
            )
            for i in range(rows)
        ]
        data = snapshot_bytes({"kind": kind, "name": name}, made)
        self.blobs.put(blob_name(data), data)
        counts = counts_of(made, {})
        saved = Snapshot(
            name, f"digest-{name}", "default", assistant, kind, ("everyone",), counts, {}, {}, blob_name(data), False, self.clock()
        )
        with self.database.write() as connection:
            save_snapshot(connection, saved, made, user_of={})
        self.clock.advance(seconds=1)

    def train(self, **options: Any) -> TrainedAdapter:
        known: dict[str, Any] = {
            "database": self.database,
            "blobs": self.blobs,
            "registry": self.registry,
            "state": self.state,
            "base_of": lambda name: BASE,
            "assistant": "calls",
            "now": self.clock,
            "new_id": self.new_id,
        }
        return train_adapter(**{**known, **options})

    def runs(self) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.execute(select(training_run).order_by(training_run.c.run_id)))


@pytest.fixture
def world(database: Database, blobs: FolderBlobs, tmp_path: Path, clock, new_id, monkeypatch: pytest.MonkeyPatch) -> World:
    def spawn_stand_in(command, **options):
        assert command[1:3] == ["-m", "affinage.tuning.worker"]
        return processes.spawn([command[0], "-m", "tests.support.trainer", *command[3:]], **options)

    monkeypatch.setattr("affinage.tuning.run.spawn", spawn_stand_in)
    tuning = {"min_examples": 100}
    declared = {"assistants": [{"name": "calls", "task": "extract", "engine": "package:smollm2", "sources": [], "tuning": tuning}]}
    with database.write() as connection:
        apply_declarations(connection, parse_declarations(declared, folder=tmp_path, origin="test"), now=clock())
    return World(database, blobs, tmp_path / "state", clock, new_id, Registry())


def test_a_training_gives_a_registered_variant_and_a_finished_run(world: World) -> None:
    world.snapshot("ds-1", 120)
    lines: list[str] = []
    trained = world.train(progress=lines.append)
    assert json.loads(lines[0]) == {"step": 1, "steps": 1, "loss": 0.5}
    assert trained.adapter.startswith("calls@")
    assert (trained.model_version, trained.peak_rss_bytes, trained.metrics["rows"]) == ("1", 1024, 96)
    assert "120 rows are few" in trained.warnings[0]
    (run,) = world.runs()
    assert (run.state, run.variant_id, run.dataset_id, run.mlflow_run_id) == ("finished", trained.variant, "ds-1", "mlflow-run")
    with world.database.read() as connection:
        (stored,) = list_variants(connection)
    assert stored.variant_id == trained.variant
    assert (stored.variant.base_digest, stored.dataset_id, stored.adapter_task) == (BASE.digest, "ds-1", "generator")
    assert stored.countersigned_at is None
    registered = world.registry.registered[trained.variant]
    assert registered["digest"] == stored.variant.adapter_digest
    assert registered["params"]["dataset_digest"] == "digest-ds-1"


def test_only_the_training_split_reaches_the_trainer(world: World) -> None:
    world.snapshot("ds-1", 120)
    world.train()
    (run,) = world.runs()
    rows = [json.loads(line) for line in (Path(run.folder) / "rows.jsonl").read_text().splitlines()]
    assert {row["split"] for row in rows} == {"train"}


def test_the_newest_snapshot_is_used_unless_one_is_named(world: World) -> None:
    world.snapshot("ds-1", 120)
    world.snapshot("ds-2", 130)
    world.train()
    world.train(dataset="ds-1")
    assert [run.dataset_id for run in world.runs()] == ["ds-2", "ds-1"]


def test_too_few_rows_are_refused_with_what_is_missing_and_nothing_is_started(world: World) -> None:
    world.snapshot("ds-1", 60)
    with pytest.raises(RefusedError) as refused:
        world.train()
    assert refused.value.reasons == ("60 rows, and 100 are needed: 40 are missing.",)
    assert world.runs() == []


def test_a_tainted_snapshot_is_refused(world: World) -> None:
    world.snapshot("ds-1", 120)
    with world.database.write() as connection:
        connection.execute(update(dataset).values(tainted=True))
    with pytest.raises(RefusedError, match="not trained on"):
        world.train(dataset="ds-1")
    with pytest.raises(UnknownObjectError):
        world.train()


def test_somebody_elses_snapshot_is_refused(world: World) -> None:
    world.snapshot("ds-1", 120, assistant="other")
    with pytest.raises(UsageError, match="belongs to `other`"):
        world.train(dataset="ds-1")


def test_a_recipe_of_another_kind_is_refused(world: World, tmp_path: Path) -> None:
    world.snapshot("ds-1", 120)
    from importlib import resources

    recipe = tmp_path / "recipe.toml"
    recipe.write_text((resources.files("affinage.tuning.recipes") / "embedding.toml").read_text())
    with pytest.raises(ConfigurationError, match="of kind embedding"):
        world.train(recipe=str(recipe))


def test_a_diverged_training_says_why_and_registers_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.snapshot("ds-1", 120)
    monkeypatch.setenv("TRAINER", "diverge")
    with pytest.raises(DependencyError, match=r"The loss is nan\.") as failed:
        world.train()
    assert failed.value.hint == "Lower the rate."
    assert [run.state for run in world.runs()] == ["failed"]
    assert world.registry.registered == {}


def test_a_killed_training_goes_on_with_resume_in_the_same_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.snapshot("ds-1", 120)
    monkeypatch.setenv("TRAINER", "killed")
    with pytest.raises(DependencyError, match="ended with code -9") as failed:
        world.train()
    assert "--resume" in failed.value.hint
    monkeypatch.delenv("TRAINER")
    trained = world.train(resume=True)
    (run,) = world.runs()
    assert (run.run_id, run.state) == (trained.run_id, "finished")
    assert json.loads((Path(run.folder) / "job.json").read_text())["resume"] is True


def test_a_run_that_trained_but_could_not_register_is_completed_without_a_second_variant(world: World) -> None:
    world.snapshot("ds-1", 120)
    world.registry.fail = True
    with pytest.raises(DependencyError, match="MLflow is away"):
        world.train()
    world.registry.fail = False
    first = world.train(resume=True)
    again = world.train()
    assert again.variant == first.variant
    assert list(world.registry.registered) == [first.variant]


def test_resume_without_anything_to_go_on_with_starts_anew(world: World) -> None:
    world.snapshot("ds-1", 120)
    world.train(resume=True)
    world.snapshot("ds-2", 130)
    world.train(resume=True)
    assert [(run.state, run.dataset_id) for run in world.runs()] == [("finished", "ds-1"), ("finished", "ds-2")]


def test_two_trainings_of_one_assistant_do_not_run_at_once(world: World) -> None:
    world.snapshot("ds-1", 120)
    lock = world.state / "training" / "calls.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConflictError, match="is running"):
            world.train()
    world.train()


def test_a_run_left_running_by_a_killed_process_is_marked_failed(world: World) -> None:
    world.snapshot("ds-1", 120)
    world.train()
    with world.database.write() as connection:
        connection.execute(update(training_run).values(state="running", ended_at=None))
    world.train(seed=1)
    assert sorted(run.state for run in world.runs()) == ["failed", "finished"]
