"""Snapshots: one file of canonical JSON lines in the blob store, named by its content, and its rows in the database.

The first line says what the snapshot is, the rows follow by example id. Neither the time nor the order in which rows
were found is part of it, so the same judgements give the same snapshot.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select

from affinage.blobs import digest_of
from affinage.database.tables.datasets import dataset, dataset_row
from affinage.datasets.rows import SPLITS, Row, row_to_line
from affinage.errors import UnknownObjectError

FORMAT = 1


@dataclass(frozen=True)
class Snapshot:
    """An immutable set of rows. `counts` has the three splits and `rejected`; `rejected` counts by reason."""

    dataset_id: str
    digest: str
    organisation: str
    assistant: str
    kind: str
    audience: tuple[str, ...]
    counts: Mapping[str, int]
    rejected: Mapping[str, int]
    manifest: Mapping[str, Any]
    blob: str
    tainted: bool
    created_at: datetime

    def as_dict(self) -> dict[str, Any]:
        """The keys of `dataset build --json`."""
        return {
            "dataset_id": self.dataset_id,
            "digest": self.digest,
            "kind": self.kind,
            "assistant": self.assistant,
            "counts": dict(self.counts),
            "rejected": dict(self.rejected),
            "audience": list(self.audience),
            "tainted": self.tainted,
        }


def snapshot_bytes(header: Mapping[str, Any], rows: Iterable[Row]) -> bytes:
    """The file of a snapshot."""
    lines = [json.dumps({"affinage_dataset": FORMAT, **header}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)]
    lines += [row_to_line(row) for row in sorted(rows, key=lambda row: row.example_id)]
    return "".join(f"{line}\n" for line in lines).encode()


def blob_name(data: bytes) -> str:
    """Name of a snapshot's file."""
    return f"datasets/{digest_of(data)}.jsonl"


def counts_of(rows: Iterable[Row], rejected: Mapping[str, int]) -> dict[str, int]:
    """The `counts` of a snapshot."""
    found = Counter(row.split for row in rows)
    return {**{split: found[split] for split in SPLITS}, "rejected": sum(rejected.values())}


def save_snapshot(connection: Connection, snapshot: Snapshot, rows: Sequence[Row], *, user_of: Mapping[str, str | None]) -> Snapshot:
    """Store `snapshot`, or return the one with this id that is there already."""
    stored = _find(connection, snapshot.dataset_id)
    if stored is not None:
        return _snapshot(stored)
    values = {name: getattr(snapshot, name) for name in Snapshot.__dataclass_fields__}
    connection.execute(insert(dataset).values(**{**values, "audience": list(snapshot.audience)}))
    if rows:
        connection.execute(
            insert(dataset_row),
            [
                {
                    "dataset_id": snapshot.dataset_id,
                    "example_id": row.example_id,
                    "split": row.split,
                    "user_name": user_of.get(row.example_id),
                    "answer_id": row.answer_id,
                    "feedback_ids": list(row.feedback_ids),
                    "doc_keys": list(row.doc_keys),
                    "chunk_ids": list(row.chunk_ids),
                }
                for row in rows
            ],
        )
    return snapshot


def get_snapshot(connection: Connection, dataset_id: str) -> Snapshot:
    """The snapshot with this id.

    Raises
    ------
    UnknownObjectError
        If there is none.
    """
    row = _find(connection, dataset_id)
    if row is None:
        raise UnknownObjectError("dataset", dataset_id, hint="`affinage dataset show` lists them.")
    return _snapshot(row)


def latest_snapshot(connection: Connection, *, assistant: str, kind: str) -> Snapshot | None:
    """The newest snapshot of this kind that is not tainted, or None."""
    query = select(dataset).where(dataset.c.assistant == assistant, dataset.c.kind == kind, dataset.c.tainted.is_(False))
    row = connection.execute(query.order_by(dataset.c.created_at.desc(), dataset.c.dataset_id).limit(1)).mappings().first()
    return None if row is None else _snapshot(row)


def list_snapshots(connection: Connection, *, assistant: str | None = None) -> list[Snapshot]:
    """All snapshots, oldest first."""
    query = select(dataset).order_by(dataset.c.created_at, dataset.c.dataset_id)
    if assistant is not None:
        query = query.where(dataset.c.assistant == assistant)
    return [_snapshot(row) for row in connection.execute(query).mappings()]


def _find(connection: Connection, dataset_id: str) -> RowMapping | None:
    return connection.execute(select(dataset).where(dataset.c.dataset_id == dataset_id)).mappings().first()


def _snapshot(row: RowMapping) -> Snapshot:
    values = {name: row[name] for name in Snapshot.__dataclass_fields__}
    return Snapshot(**{**values, "audience": tuple(row["audience"])})
