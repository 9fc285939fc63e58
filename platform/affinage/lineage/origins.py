"""From a variant back to the judgements it learnt from: adapter, gate, dataset, rows, feedback, answers, documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from affinage.database.tables.answers import answer
from affinage.database.tables.datasets import dataset, dataset_row
from affinage.database.tables.index import document, generation
from affinage.database.tables.registry import gate_result, training_run, variant


def origins_of(connection: Connection, *, variant_id: str, generations: Mapping[str, str], detailed: bool) -> dict[str, Any]:
    """The variant, and for each adapter in it (of its generator, and of the embedders of its generations) its origin.

    Parameters
    ----------
    detailed
        Also name rows, feedback, answers and documents: for operators. Without it only their numbers are told.
    """
    served = connection.execute(select(variant).where(variant.c.variant_id == variant_id)).mappings().first()
    trained = _embedder_variants(connection, generations.values())
    if served is not None and served["adapter"] is not None:
        trained = {served["variant_id"]: served, **trained}
    return {
        "variant": None if served is None else _variant(served),
        "adapters": [_origin(connection, row, detailed=detailed) for row in trained.values()],
    }


def _embedder_variants(connection: Connection, generation_ids: Iterable[str]) -> dict[str, RowMapping]:
    rows = connection.execute(select(generation.c.embedder).where(generation.c.generation_id.in_(list(generation_ids))))
    names = sorted({row.embedder["adapter"] for row in rows if row.embedder.get("adapter")})
    found = connection.execute(select(variant).where(variant.c.adapter.in_(names)).order_by(variant.c.created_at)).mappings()
    # The variant that was trained is the first with this adapter; later ones only use it.
    first: dict[str, RowMapping] = {}
    for row in found:
        first.setdefault(row["adapter"], row)
    return {row["variant_id"]: row for row in first.values()}


def _variant(row: RowMapping) -> dict[str, Any]:
    return {
        "variant_id": row["variant_id"],
        "spec": row["spec"],
        "adapter": row["adapter"],
        "model_version": row["model_version"],
        "tainted": row["tainted"],
    }


def _origin(connection: Connection, row: RowMapping, *, detailed: bool) -> dict[str, Any]:
    run = connection.execute(select(training_run).where(training_run.c.run_id == row["run_id"])).mappings().first()
    gates = connection.execute(select(gate_result).where(gate_result.c.variant_id == row["variant_id"]).order_by(gate_result.c.created_at))
    return {
        "adapter": row["adapter"],
        "adapter_digest": row["adapter_digest"],
        "model_version": row["model_version"],
        "tainted": row["tainted"],
        "run": None if run is None else {"run_id": run["run_id"], "recipe": run["recipe"], "metrics": run["metrics"]},
        "gate": [
            {"gate_id": gate["gate_id"], "passed": gate["passed"], "reasons": gate["reasons"], "metrics": gate["metrics"]}
            for gate in gates.mappings()
        ],
        "dataset": None if row["dataset_id"] is None else _dataset(connection, row["dataset_id"], detailed=detailed),
    }


def _dataset(connection: Connection, dataset_id: str, *, detailed: bool) -> dict[str, Any]:
    kept = connection.execute(select(dataset).where(dataset.c.dataset_id == dataset_id)).mappings().first()
    rows = _rows(connection, dataset_id)
    result: dict[str, Any] = {
        "dataset_id": dataset_id,
        "digest": None if kept is None else kept["digest"],
        "kind": None if kept is None else kept["kind"],
        "counts": None if kept is None else kept["counts"],
        "tainted": None if kept is None else kept["tainted"],
        "learnt_from": {
            "rows": len(rows),
            "feedback": len({name for row in rows for name in row["feedback_ids"]}),
            "users": len({row["user"] for row in rows if row["user"]}),
            "documents": len({name for row in rows for name in row["documents"]}),
        },
    }
    return {**result, "rows": rows} if detailed else result


def _rows(connection: Connection, dataset_id: str) -> list[dict[str, Any]]:
    """Rows that a model learnt from (not the test split), with the user's pseudonym and the documents' names of today."""
    query = (
        select(dataset_row, answer.c.unit)
        .outerjoin(answer, answer.c.answer_id == dataset_row.c.answer_id)
        .where(dataset_row.c.dataset_id == dataset_id, dataset_row.c.split != "test")
        .order_by(dataset_row.c.example_id)
    )
    rows = connection.execute(query).mappings().all()
    keys = sorted({key for row in rows for key in row["doc_keys"]})
    named = connection.execute(select(document.c.doc_key, document.c.source, document.c.path).where(document.c.doc_key.in_(keys)))
    names = {row.doc_key: f"{row.source}/{row.path}" for row in named}
    return [
        {
            "example_id": row["example_id"],
            "split": row["split"],
            "feedback_ids": row["feedback_ids"],
            "user": row["unit"],
            "answer_id": row["answer_id"],
            "documents": [names.get(key, key) for key in row["doc_keys"]],
        }
        for row in rows
    ]
