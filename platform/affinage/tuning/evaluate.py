"""Evaluate a candidate against what serves now, on rows neither has seen, and let the gate decide.

The decision is stored with its figures; what passed is countersigned and becomes the candidate. Training metrics are
never read here. Slow work (generation, embedding) happens outside any transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
from sqlalchemy import Connection, insert

from affinage.blobs import BlobStore
from affinage.database.engine import Database
from affinage.database.tables.registry import gate_result
from affinage.datasets.read import load_rows
from affinage.datasets.rows import EmbeddingRow, SftRow, Split
from affinage.datasets.snapshots import Snapshot, get_snapshot, latest_snapshot
from affinage.declarations.model import AssistantSpec
from affinage.declarations.repository import get_assistant
from affinage.engines.protocols import Embedder, GenerationRequest, Generator
from affinage.errors import RefusedError, UnknownObjectError, UsageError
from affinage.index.cache import VectorCache
from affinage.index.embedding import vectors_for
from affinage.index.identity import embed_hash
from affinage.registry.countersign import countersign
from affinage.registry.moves import pointer_of, set_candidate
from affinage.registry.variants import StoredVariant, stored_variant
from affinage.tuning import golden
from affinage.tuning.corpus import corpus_of
from affinage.tuning.gate import EMBEDDING_RULE, EXTRACTION_RULE, GateDecision, decide, refusal
from affinage.tuning.scores import Scores, extraction_scores, retrieval_scores

logger = logging.getLogger(__name__)
KIND_OF_TASK = {"answer": "embedding", "extract": "extraction", "classify": "classification", "summarise": "sft"}


@dataclass(frozen=True)
class Evaluators:
    """The engines an evaluation needs.

    Parameters
    ----------
    adapter_folder
        Files of a variant's adapter, fetched and verified; raises `RefusedError` when they are not sound.
    generator
        By the name of the engine.
    embedder
        The packaged embedder, with the adapter of the variant or bare.
    cache
        Vectors made here are the ones a new generation will need.
    replies
        Replies that were generated before, kept by who calls: decoding is greedy, and one control meets many candidates.
    """

    adapter_folder: Callable[[StoredVariant], Path]
    generator: Callable[[str], Generator]
    embedder: Callable[[StoredVariant | None], Embedder]
    cache: VectorCache
    replies: dict[tuple[str | int | None, ...], list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """A stored gate result. `control_id` is None when the bare base was the control."""

    gate_id: str
    variant_id: str
    control_id: str | None
    dataset_id: str
    decision: GateDecision

    def as_dict(self) -> dict[str, Any]:
        """The keys of `adapter evaluate --json`."""
        return {
            "gate": "passed" if self.decision.passed else "refused",
            "reasons": list(self.decision.reasons),
            "metrics": self.decision.metrics(),
            "gate_id": self.gate_id,
            "variant": self.variant_id,
            "control": self.control_id,
            "dataset_id": self.dataset_id,
        }


def evaluate_variant(
    *,
    database: Database,
    blobs: BlobStore,
    evaluators: Evaluators,
    variant_id: str,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
    rng: np.random.Generator,
    dataset_id: str | None = None,
    actor: str = "gate",
    split: Split = "test",
) -> Evaluation:
    """Compare the variant with the champion on the held-out split, decide, and record it.

    Parameters
    ----------
    dataset_id
        The snapshot whose split is used; None: the one the variant learned from, else the newest of the assistant.

    Raises
    ------
    UsageError
        If the variant has no adapter: nothing was trained, so there is nothing to compare.
    UnknownObjectError
        If there is no snapshot to compare on.
    """
    with database.read() as connection:
        candidate = stored_variant(connection, variant_id)
        spec = get_assistant(connection, candidate.variant.assistant)
        pointer = pointer_of(connection, spec.name)
        same = pointer is not None and pointer.variant_id == variant_id
        control = stored_variant(connection, pointer.variant_id) if pointer is not None and not same else None
        snapshot = _snapshot_for(connection, spec, dataset_id or candidate.dataset_id)
    if candidate.variant.adapter is None:
        raise UsageError(f"Variant `{variant_id}` has no adapter to evaluate.", hint="Start an experiment with it instead.")
    decision = _Comparison(database, blobs, evaluators, candidate, control, spec, snapshot).decide(split=split, rng=rng)
    evaluation = Evaluation(new_id(), variant_id, control.variant_id if control else None, snapshot.dataset_id, decision)
    _record(database, evaluation, assistant=spec.name, actor=actor, now=now(), new_id=new_id)
    return evaluation


def _snapshot_for(connection: Connection, spec: AssistantSpec, dataset_id: str | None) -> Snapshot:
    kind = KIND_OF_TASK[spec.task]
    found = latest_snapshot(connection, assistant=spec.name, kind=kind) if dataset_id is None else get_snapshot(connection, dataset_id)
    if found is None:
        raise UnknownObjectError(f"{kind} dataset of", spec.name, hint=f"Build one: `affinage dataset build {spec.name} --kind {kind}`.")
    if found.assistant != spec.name:
        raise UsageError(f"Dataset `{found.dataset_id}` belongs to `{found.assistant}`.", hint=f"Give a dataset of `{spec.name}`.")
    return found


@dataclass(frozen=True)
class _Comparison:
    """Candidate and control on one snapshot."""

    database: Database
    blobs: BlobStore
    evaluators: Evaluators
    candidate: StoredVariant
    control: StoredVariant | None
    spec: AssistantSpec
    snapshot: Snapshot

    def decide(self, *, split: Split, rng: np.random.Generator) -> GateDecision:
        """Refuse what must not be measured; else measure and let the gate decide."""
        embedding = self.snapshot.kind == "embedding"
        rule = EMBEDDING_RULE if embedding else EXTRACTION_RULE
        if embedding != (self.candidate.adapter_task == "embedder"):
            reason = f"A dataset of kind {self.snapshot.kind} says nothing about an adapter of the {self.candidate.adapter_task}."
            return refusal(rule, reason)
        if self.candidate.tainted or self.snapshot.tainted:
            return refusal(rule, "It learned from data that has to be forgotten.")
        try:
            self.evaluators.adapter_folder(self.candidate)
        except RefusedError as error:
            return refusal(rule, *(error.reasons or (error.message,)))
        rows = load_rows(self.blobs, self.snapshot, split)
        if embedding:
            pairs = cast("list[EmbeddingRow]", rows)
            before, after = self._rank(pairs)
            clusters = [row.doc_key for row in pairs]
        else:
            examples = cast("list[SftRow]", rows)
            before, after = self._generate(examples)
            clusters = [row.group or row.example_id for row in examples]
        return decide(rule=rule, control=before, candidate=after, clusters=clusters, rng=rng)

    def _generate(self, rows: Sequence[SftRow]) -> tuple[Scores, Scores]:
        generator = self.evaluators.generator(self.candidate.variant.engine)
        scores = []
        for variant in (self.control, self.candidate):
            adapter = None if variant is None else variant.variant.adapter
            if variant is not None and adapter is not None:
                generator.load_adapter(adapter, self.evaluators.adapter_folder(variant))
            replies = self._replies(generator, adapter, rows)
            scores.append(extraction_scores(replies, [row.target for row in rows], schema=self.spec.answer_schema))
        self._measure_golden(generator)
        return scores[0], scores[1]

    def _replies(self, generator: Generator, adapter: str | None, rows: Sequence[SftRow]) -> list[str]:
        split = rows[0].split if rows else ""
        key = (self.candidate.variant.engine, adapter, self.snapshot.digest, split, self.spec.max_output_tokens)
        if key not in self.evaluators.replies:
            limit, schema = self.spec.max_output_tokens, self.spec.answer_schema  # as when it answers users
            requests = [GenerationRequest(row.messages, adapter=adapter, max_tokens=limit, schema=schema) for row in rows]
            self.evaluators.replies[key] = [generation.text for generation in generator.generate(requests)]
        return self.evaluators.replies[key]

    def _measure_golden(self, generator: Generator) -> None:
        adapter, digest = self.candidate.variant.adapter, self.candidate.variant.adapter_digest
        if adapter is not None and digest is not None and isinstance(generator, golden.HasLogProbabilities):
            rows = cast("list[SftRow]", load_rows(self.blobs, self.snapshot, "train"))
            golden.save(self.blobs, digest, golden.measure(generator, rows, adapter=adapter))

    def _rank(self, rows: Sequence[EmbeddingRow]) -> tuple[Scores, Scores]:
        served = self.control if self.control is not None and self.control.adapter_task == "embedder" else None
        embedders = [self.evaluators.embedder(variant) for variant in (served, self.candidate)]
        generations = (self.control or self.candidate).variant.generations
        count_tokens, max_tokens = embedders[0].count_tokens, embedders[0].max_tokens
        texts, chunks = corpus_of(self.database, self.blobs, generations, count_tokens=count_tokens, max_tokens=max_tokens)
        names = sorted(texts)
        # The passage of a row may have been cut differently since; its own text is then looked for.
        relevant = [chunks.get(row.chunk_id, embed_hash(row.passage)) for row in rows]
        scores = []
        for embedder in embedders:
            vectors, _ = vectors_for(texts, embedder=embedder, cache=self.evaluators.cache)
            corpus = np.stack([vectors[name] for name in names]) if names else np.empty((0, embedder.dimensions), dtype=np.float32)
            questions = embedder.embed([row.question for row in rows])
            scores.append(retrieval_scores(questions, corpus, names=names, relevant=relevant))
        return scores[0], scores[1]


def _record(database: Database, evaluation: Evaluation, *, assistant: str, actor: str, now: datetime, new_id: Callable[[], str]) -> None:
    decision = evaluation.decision
    values: dict[str, Any] = {
        "gate_id": evaluation.gate_id,
        "variant_id": evaluation.variant_id,
        "control_id": evaluation.control_id,
        "dataset_id": evaluation.dataset_id,
        "passed": decision.passed,
        "reasons": list(decision.reasons),
        "metrics": decision.metrics(),
        "created_at": now,
    }
    with database.write() as connection:
        connection.execute(insert(gate_result).values(**values))
        if decision.passed:
            countersign(connection, variant_id=evaluation.variant_id, gate_id=evaluation.gate_id, now=now)
            reason = f"gate {evaluation.gate_id} passed"
            set_candidate(
                connection, assistant=assistant, variant_id=evaluation.variant_id, actor=actor, reason=reason, now=now, new_id=new_id
            )
    logger.info("The gate has decided.", extra={"variant": evaluation.variant_id, "passed": decision.passed})
