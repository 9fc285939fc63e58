"""Feedback becomes rows, rows become adapters, held-out rows decide, and a better embedding serves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from affinage.datasets.build import build_dataset
from affinage.datasets.read import load_rows
from affinage.datasets.rows import EmbeddingRow, Kind
from affinage.declarations.repository import get_assistant
from affinage.demo.corpus import SOURCE
from affinage.demo.damage import damage_adapter
from affinage.demo.declarations import APPELS, GUICHET
from affinage.demo.people import cites
from affinage.demo.steps.people import tour_questions
from affinage.demo.tour import SEED, Tour
from affinage.errors import RefusedError
from affinage.registry.variants import stored_variant
from affinage.serving.prefect import FlowRun

LEARNERS: dict[str, Kind] = {GUICHET: "embedding", APPELS: "extraction"}


def tune_extraction(tour: Tour) -> dict[str, Any]:
    """The corrected calls become rows; a training begins on them and goes on while agents ask."""
    return _begin_tuning(tour, APPELS)


def tune_embedding(tour: Tour) -> dict[str, Any]:
    """The answered questions become pairs; a second training begins beside the first."""
    return _begin_tuning(tour, GUICHET)


def tune(tour: Tour) -> dict[str, Any]:
    """Whichever training ends first is judged while the other goes on: each is a process with one thread."""
    result: dict[str, Any] = {}
    for kind, run in [(kind, run) for kind in LEARNERS.values() if (run := tour.facts.get(f"{kind}_training"))]:
        trained = run.result()
        tour.facts[f"{kind}_variant"] = trained["variant"]
        variants: dict[str, str] = {kind: trained["variant"]}
        if kind == "extraction":
            variants["damaged"] = _damaged(tour, trained["variant"])
        tour.facts[f"{kind}_evaluation"] = (tuple(variants), _evaluation(tour, variants.values()))
        result[kind] = {
            "adapter": trained["adapter"],
            "model_version": trained["model_version"],
            "seconds": round(trained["seconds"], 1),
            "peak_gib": round(trained["peak_rss_bytes"] / 2**30, 2),
        }
    return result


def gate(tour: Tour) -> dict[str, Any]:
    """Judge both adapters on held-out rows, and a damaged copy of one: the gate must see the difference."""
    result: dict[str, Any] = {}
    for names, run in [tour.facts[key] for kind in LEARNERS.values() if (key := f"{kind}_evaluation") in tour.facts]:
        for name, report in zip(names, run.result()["evaluations"], strict=True):
            metrics = report["metrics"]
            result[name] = {
                "gate": report["gate"],
                "reasons": report["reasons"],
                "metric": metrics["primary"],
                "before": metrics["control"],
                "after": metrics["candidate"],
                "difference": metrics["difference"],
                "interval": metrics["interval"],
                "rows": metrics["items"],
                "documents" if name == "embedding" else "users": metrics["clusters"],
                "others": {key: f"{found['control']:.3f} → {found['candidate']:.3f}" for key, found in metrics["others"].items()},
            }
            tour.facts[f"{name}_passed"] = report["gate"] == "passed"
    return result


def reindex(tour: Tour) -> dict[str, Any]:
    """Build a generation with the adapted embedder beside the old one, switch, and ask the held-out questions again."""
    if not tour.facts.get("embedding_passed"):
        return {"skipped": "the embedding adapter did not pass its gate; the old generation serves"}
    snapshot = tour.facts["embedding_dataset"]
    held_out = {row.question for row in load_rows(tour.app.blobs, snapshot, "test") if isinstance(row, EmbeddingRow)}
    asked = [question for question in tour_questions(tour) if question.text in held_out]
    before = _first_hits(tour, asked)
    move = tour.app.promote_variant(tour.facts["embedding_variant"], actor="demo", reason="The gate passed; retrieval needs no A/B here.")
    after = _first_hits(tour, asked)
    with tour.app.database.read() as connection:
        serving = stored_variant(connection, move.variant_id).variant
    return {
        "generation": serving.generations[SOURCE],
        "held_out_questions": len(asked),
        "right_passage_first_before": before,
        "right_passage_first_after": after,
    }


def _begin_tuning(tour: Tour, assistant: str) -> dict[str, Any]:
    kind = LEARNERS[assistant]
    with tour.app.database.read() as connection:
        spec = get_assistant(connection, assistant)
    try:
        snapshot = build_dataset(tour.app.database, tour.app.blobs, assistant=spec, kind=kind, now=tour.app.now)
    except RefusedError as refused:  # too few rows is an answer, not a fault
        return {"refused": refused.message}
    tour.app.release_models()  # their memory is for the training
    tour.facts[f"{kind}_dataset"] = snapshot
    tour.facts[f"{kind}_training"] = tour.flow("tune", "--assistant", assistant, "--kind", kind)
    return {"dataset_id": snapshot.dataset_id, "counts": dict(snapshot.counts), "rejected": dict(snapshot.rejected)}


def _first_hits(tour: Tour, asked: list[Any]) -> float:
    right = 0
    for question in asked:
        hits = tour.app.answering.search(GUICHET, question.text, user=question.user, k=1)
        right += any(cites(question, [{"document": hit.document, "quote": hit.text}]) for hit in hits)
    return round(right / max(len(asked), 1), 3)


def _evaluation(tour: Tour, variants: Iterable[str]) -> FlowRun:
    return tour.flow("evaluate", *(argument for variant in variants for argument in ("--variant", variant)))


def _damaged(tour: Tour, variant: str) -> str:
    with tour.app.database.read() as connection:
        folder = tour.app.verified_folder(stored_variant(connection, variant))
    out = tour.folder / "damaged"
    damage_adapter(folder, out, rng=np.random.default_rng(SEED))
    damaged, _version = tour.app.register_adapter(out, assistant=APPELS)
    return damaged.variant_id
