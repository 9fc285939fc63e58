"""An evaluation from rows to record, with a generator that answers from a table."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, update

from affinage.answers.variant import Variant
from affinage.blobs.folder import FolderBlobs
from affinage.database.engine import Database
from affinage.database.tables.datasets import dataset
from affinage.database.tables.registry import alias_move, gate_result
from affinage.datasets.rows import SftRow
from affinage.datasets.snapshots import Snapshot, blob_name, counts_of, save_snapshot, snapshot_bytes
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.engines.protocols import Message
from affinage.errors import RefusedError, UnknownObjectError, UsageError
from affinage.index.cache import VectorCache
from affinage.registry.adapter_files import adapter_digest
from affinage.registry.moves import move_champion
from affinage.registry.names import adapter_name
from affinage.registry.variants import save_variant, stored_variant
from affinage.tuning import golden
from affinage.tuning.evaluate import Evaluation, Evaluators, evaluate_variant
from tests.support.adapters import write_adapter
from tests.support.generators import TableGenerator

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "required": ["a", "b"]}


def right(question: str) -> str:
    return json.dumps({"a": question, "b": question[::-1]})


def half(question: str) -> str:
    return json.dumps({"a": question, "b": "?"})


def babble(question: str) -> str:
    return f"Well, {question}"


@dataclass
class World:
    """An assistant, its snapshot, and variants whose adapters behave as told."""

    database: Database
    blobs: FolderBlobs
    folder: Path
    clock: object
    new_id: object
    generator: TableGenerator
    folders: dict[str, Path]

    def variant(self, behaviour, *, seed: int, task: str = "generator") -> str:
        folder = write_adapter(self.folder / f"adapter-{seed}", seed=seed)
        digest = adapter_digest(folder)
        self.generator._known[digest] = behaviour
        made = Variant("calls", "table", "b" * 64, adapter_name("calls", digest), digest, "p")
        self.folders[made.variant_id] = folder
        with self.database.write() as connection:
            save_variant(connection, made, organisation="default", now=self.clock(), adapter_task=task, dataset_id="ds-1")
        return made.variant_id

    def evaluate(self, variant_id: str, **options) -> Evaluation:
        def refuse_embedder(stored):
            raise AssertionError("no embedder is needed")

        evaluators = Evaluators(
            adapter_folder=lambda stored: self.folders[stored.variant_id],
            generator=lambda engine: self.generator,
            embedder=refuse_embedder,
            cache=VectorCache(self.folder / "cache.db"),
        )
        known = {"evaluators": evaluators, "now": self.clock, "new_id": self.new_id, "rng": np.random.default_rng(0)}
        return evaluate_variant(database=self.database, blobs=self.blobs, variant_id=variant_id, **{**known, **options})


@pytest.fixture
def world(database: Database, blobs: FolderBlobs, tmp_path: Path, clock, new_id) -> World:
    declared = {"assistants": [{"name": "calls", "task": "extract", "engine": "package:smollm2", "sources": [], "answer_schema": SCHEMA}]}
    rows = [
        SftRow(
            example_id=f"{i:03d}",
            split="test" if i % 2 else "train",
            group=f"user-{i % 12}",
            messages=(Message("system", "Answer."), Message("user", f"call {i}")),
            target=right(f"call {i}"),
        )
        for i in range(72)
    ]
    data = snapshot_bytes({"kind": "extraction"}, rows)
    blobs.put(blob_name(data), data)
    snapshot = Snapshot(
        "ds-1", "d" * 64, "default", "calls", "extraction", ("everyone",), counts_of(rows, {}), {}, {}, blob_name(data), False, clock()
    )
    with database.write() as connection:
        apply_declarations(connection, parse_declarations(declared, folder=tmp_path, origin="test"), now=clock())
        save_snapshot(connection, snapshot, rows, user_of={})
    return World(database, blobs, tmp_path, clock, new_id, TableGenerator(babble, {}), {})


def test_the_first_candidate_is_compared_with_the_bare_base(world: World) -> None:
    evaluation = world.evaluate(world.variant(right, seed=1))
    assert evaluation.control_id is None
    result = evaluation.as_dict()
    assert (result["gate"], result["reasons"]) == ("passed", [])
    assert (result["metrics"]["control"], result["metrics"]["candidate"]) == (0.0, 1.0)
    assert {request.adapter for request in world.generator.requests} == {None, *world.generator.adapters()}


def test_what_passed_is_recorded_countersigned_and_becomes_the_candidate(world: World) -> None:
    variant_id = world.variant(right, seed=1)
    evaluation = world.evaluate(variant_id)
    with world.database.read() as connection:
        stored = stored_variant(connection, variant_id)
        assert (stored.gate_id, stored.countersigned_at) == (evaluation.gate_id, world.clock())
        (gate,) = connection.execute(select(gate_result)).all()
        assert (gate.passed, gate.dataset_id, gate.metrics["primary"]) == (True, "ds-1", "field_f1")
        (move,) = connection.execute(select(alias_move)).all()
        assert (move.alias, move.variant_id, move.done_at) == ("candidate", variant_id, None)


def test_a_damaged_adapter_is_refused_and_nothing_is_signed(world: World) -> None:
    variant_id = world.variant(babble, seed=1)
    evaluation = world.evaluate(variant_id)
    assert not evaluation.decision.passed
    assert "field_f1 did not improve" in evaluation.decision.reasons[0]
    with world.database.read() as connection:
        assert stored_variant(connection, variant_id).countersigned_at is None
        assert connection.execute(select(alias_move)).all() == []
        assert [row.passed for row in connection.execute(select(gate_result))] == [False]


def test_a_later_candidate_is_compared_with_the_champion(world: World) -> None:
    champion = world.variant(half, seed=1)
    world.evaluate(champion)
    with world.database.write() as connection:
        move_champion(connection, assistant="calls", to=champion, actor="t", reason="t", now=world.clock(), new_id=world.new_id)
    worse = world.evaluate(world.variant(babble, seed=2))
    assert worse.control_id == champion
    # The champion gets one of two fields right; the candidate answers without JSON.
    assert worse.decision.metrics()["control"] == pytest.approx(0.5)
    assert not worse.decision.passed
    assert world.evaluate(world.variant(right, seed=3)).decision.passed
    # The champion itself is judged against the bare base, not against itself.
    assert world.evaluate(champion).decision.passed


def test_files_that_are_not_sound_are_refused_with_their_reasons_and_never_loaded(world: World) -> None:
    variant_id = world.variant(right, seed=1)

    def refuse(stored):
        raise RefusedError("no", reasons=["`x.bin` may be a pickle."])

    evaluators = Evaluators(refuse, lambda engine: world.generator, lambda stored: None, VectorCache(world.folder / "c.db"))  # type: ignore[arg-type,return-value]
    evaluation = world.evaluate(variant_id, evaluators=evaluators)
    assert evaluation.decision.reasons == ("`x.bin` may be a pickle.",)
    assert world.generator.requests == []


def test_what_learned_from_forgotten_data_is_refused(world: World) -> None:
    variant_id = world.variant(right, seed=1)
    with world.database.write() as connection:
        connection.execute(update(dataset).values(tainted=True))
    assert world.evaluate(variant_id).decision.reasons == ("It learned from data that has to be forgotten.",)


def test_an_adapter_of_the_embedder_is_not_judged_on_answers(world: World) -> None:
    evaluation = world.evaluate(world.variant(right, seed=1, task="embedder"))
    assert "says nothing about an adapter of the embedder" in evaluation.decision.reasons[0]


def test_golden_rows_come_from_the_training_split(world: World) -> None:
    variant_id = world.variant(right, seed=1)
    world.evaluate(variant_id)
    rows = golden.load(world.blobs, adapter_digest(world.folders[variant_id]))
    assert len(rows) == golden.GOLDEN_ROWS
    assert all(int(row.messages[-1].content.removeprefix("call ")) % 2 == 0 for row in rows)
    assert all(row.adapter > row.base + 1 for row in rows)


def test_a_variant_without_adapter_and_an_unknown_dataset_say_what_to_do(world: World) -> None:
    bare = replace(Variant("calls", "table", "b" * 64, None, None, "p"))
    with world.database.write() as connection:
        save_variant(connection, bare, organisation="default", now=world.clock())
    with pytest.raises(UsageError, match="no adapter"):
        world.evaluate(bare.variant_id)
    with pytest.raises(UnknownObjectError):
        world.evaluate(world.variant(right, seed=1), dataset_id="nothing")
    with pytest.raises(UnknownObjectError):
        world.evaluate("nothing")
