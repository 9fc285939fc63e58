"""An embedder's adapter is judged on the ranking of every chunk, and released as a generation of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import select

from affinage.answers.variant import Variant
from affinage.database.tables.index import chunk
from affinage.datasets.rows import EmbeddingRow
from affinage.datasets.snapshots import Snapshot, blob_name, counts_of, save_snapshot, snapshot_bytes
from affinage.errors import RefusedError
from affinage.index.generations import build_generation
from affinage.registry.mlflow import RegisteredVersion
from affinage.registry.variants import StoredVariant, save_variant, stored_variant
from affinage.tuning.corpus import corpus_of
from affinage.tuning.evaluate import Evaluation, Evaluators, evaluate_variant
from affinage.tuning.release import release_variant
from tests.support.embedders import HashEmbedder
from tests.support.indexing import World

TOPICS = 24


class Translating(HashEmbedder):
    """Knows that `mot7` in a question means `word7` in a document; `shift` makes it know it wrongly."""

    def __init__(self, *, shift: int = 0) -> None:
        super().__init__(version=f"translating-{shift}")
        self._shift = shift
        self._seed = "1"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return super().embed([re.sub(r"mot(\d+)", lambda m: f"word{(int(m[1]) + self._shift) % TOPICS}", text) for text in texts])


@dataclass
class Registry:
    """Remembers what was registered, by variant."""

    versions: dict[str, str] = field(default_factory=dict)

    def register_variant(self, *, variant_id: str, **rest: Any) -> RegisteredVersion:
        version = self.versions.setdefault(variant_id, str(len(self.versions) + 1))
        return RegisteredVersion("m", version, None)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    for n in range(TOPICS):
        world.write(f"{n:02d}.md", f"# Note\n\nThe office treats word{n} on demand, and the clerk files it on the same day.")
    world.sync()
    with world.database.read() as connection:
        chunks = connection.execute(select(chunk).where(chunk.c.generation_id == world.generation()).order_by(chunk.c.text)).all()
    rows = []
    for c in chunks:
        n = int(re.search(r"word(\d+)", c.text)[1])  # type: ignore[index]
        common = {"split": "test", "chunk_id": c.chunk_id, "doc_key": c.doc_key, "passage": c.text}
        rows.append(EmbeddingRow(example_id=f"{n:02d}", question=f"Qui traite mot{n} ?", **common))
    data = snapshot_bytes({"kind": "embedding"}, rows)
    world.blobs.put(blob_name(data), data)
    snapshot = Snapshot(
        "ds-1",
        "d" * 64,
        "default",
        "guichet",
        "embedding",
        ("everyone",),
        counts_of(rows, {}),
        {},
        {},
        blob_name(data),
        False,
        world.clock(),
    )
    with world.database.write() as connection:
        save_snapshot(connection, snapshot, rows, user_of={})
    yield world
    world.close()


def candidate(world: World) -> str:
    generations = {"handbook": world.generation()}
    made = Variant("guichet", "extractive", "b" * 64, "guichet@12345678", "1" * 64, "p", generations)
    with world.database.write() as connection:
        save_variant(
            connection, made, organisation="default", now=world.clock(), adapter_task="embedder", dataset_id="ds-1", model_version="0"
        )
    return made.variant_id


def evaluate(world: World, variant_id: str, tuned: HashEmbedder) -> Evaluation:
    def no_generator(engine: str):
        raise AssertionError("no generator is needed")

    evaluators = Evaluators(
        adapter_folder=lambda stored: world.folder,
        generator=no_generator,
        embedder=lambda stored: world.embedder if stored is None else tuned,
        cache=world.cache,
    )
    return evaluate_variant(
        database=world.database,
        blobs=world.blobs,
        evaluators=evaluators,
        variant_id=variant_id,
        now=world.clock,
        new_id=world.new_id,
        rng=np.random.default_rng(0),
    )


def test_the_corpus_is_every_chunk_under_the_names_of_the_index(world: World) -> None:
    with world.database.read() as connection:
        stored = {row.chunk_id: row.embed_hash for row in connection.execute(select(chunk))}
    texts, chunks = corpus_of(
        world.database, world.blobs, {"handbook": world.generation()}, count_tokens=world.embedder.count_tokens, max_tokens=256
    )
    assert chunks == stored
    assert set(texts) == set(stored.values())


def test_an_embedder_that_understands_the_questions_passes(world: World) -> None:
    evaluation = evaluate(world, candidate(world), Translating())
    metrics = evaluation.decision.metrics()
    assert evaluation.decision.passed, evaluation.decision.reasons
    assert (metrics["primary"], metrics["items"], metrics["clusters"]) == ("ndcg_at_10", TOPICS, TOPICS)
    assert metrics["candidate"] == pytest.approx(1.0)
    assert metrics["control"] < 0.6


def test_an_embedder_that_understands_them_wrongly_is_refused(world: World) -> None:
    evaluation = evaluate(world, candidate(world), Translating(shift=5))
    assert not evaluation.decision.passed
    assert "ndcg_at_10 did not improve" in evaluation.decision.reasons[0]


def test_the_control_costs_no_embedding_of_documents(world: World) -> None:
    world.embedder.embedded.clear()
    evaluate(world, candidate(world), Translating())
    assert len(world.embedder.embedded) == TOPICS  # the questions


def release(world: World, registry: Registry, variant_id: str, tuned: HashEmbedder) -> StoredVariant:
    clients = world.clients(embedder_of=lambda spec: tuned if spec.get("adapter") else world.embedder)
    return release_variant(
        database=world.database,
        registry=registry,  # type: ignore[arg-type]
        variant_id=variant_id,
        folder_of=lambda stored: world.folder,
        build=lambda source, embedder: build_generation(clients, source, embedder=embedder).generation_id,
        now=world.clock,
    )


def test_what_passed_gets_generations_with_its_vectors_and_embeds_nothing_twice(world: World) -> None:
    tuned, registry, variant_id = Translating(), Registry(), candidate(world)
    evaluation = evaluate(world, variant_id, tuned)
    tuned.embedded.clear()
    released = release(world, registry, variant_id, tuned)
    assert tuned.embedded == []  # the gate's vectors are the generation's
    assert released.variant_id != variant_id
    assert released.variant.generations != {"handbook": world.generation()}
    assert (released.gate_id, released.variant.adapter) == (evaluation.gate_id, "guichet@12345678")
    assert released.countersigned_at is not None
    # Killed and repeated, or asked for again under its own name: the same.
    assert release(world, registry, variant_id, tuned) == released
    assert release(world, registry, released.variant_id, tuned) == released
    assert list(registry.versions) == [released.variant_id]


def test_what_was_refused_gets_no_generation(world: World) -> None:
    variant_id = candidate(world)
    evaluate(world, variant_id, Translating(shift=5))
    with pytest.raises(RefusedError, match="no index of its own"):
        release(world, Registry(), variant_id, Translating(shift=5))


def test_an_adapter_of_the_generator_is_ready_as_it_is(world: World) -> None:
    made = Variant("guichet", "package:smollm2", "b" * 64, "guichet@87654321", "2" * 64, "p", {"handbook": world.generation()})
    with world.database.write() as connection:
        save_variant(connection, made, organisation="default", now=world.clock(), adapter_task="generator")
        stored = stored_variant(connection, made.variant_id)
    assert release(world, Registry(), made.variant_id, Translating()) == stored
