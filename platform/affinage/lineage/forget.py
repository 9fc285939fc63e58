"""Remove a user's interactions, feedback and training rows, and name what learnt from them.

Called by the command line. A snapshot that loses rows is tainted and its file is written again without them; an adapter
that was trained on such rows is tainted, which keeps it from being promoted. Doing it again changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from affinage.blobs import BlobStore
from affinage.database.engine import Database
from affinage.database.tables.answers import answer
from affinage.database.tables.datasets import dataset, dataset_row, split_side
from affinage.database.tables.experiments import exposure
from affinage.database.tables.feedback import feedback
from affinage.database.tables.registry import variant
from affinage.datasets.read import load_rows
from affinage.datasets.snapshots import blob_name, get_snapshot
from affinage.datasets.splits import row_group, user_group
from affinage.errors import ConflictError
from affinage.lineage.copies import adapter_digests, remove_copies, run_folders

ATTEMPTS = 5
STALE = "stale_blobs"
# Manifest key: files that a snapshot no longer needs and that are still to be deleted.


@dataclass(frozen=True)
class ForgetReport:
    """What was removed (or would be), and what learnt from it."""

    interactions: int
    feedback: int
    dataset_rows: int
    tainted_snapshots: tuple[str, ...]
    tainted_adapters: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The keys of `affinage forget --json`."""
        return {
            "interactions": self.interactions,
            "feedback": self.feedback,
            "dataset_rows": self.dataset_rows,
            "tainted_snapshots": list(self.tainted_snapshots),
            "tainted_adapters": list(self.tainted_adapters),
        }


def forget_user(database: Database, blobs: BlobStore, *, user: str, dry_run: bool = False) -> ForgetReport:
    """Remove what `user` asked and said, and every training row made from it.

    Parameters
    ----------
    dry_run
        Count and name only.
    """
    for _ in range(ATTEMPTS):
        with database.read() as connection:
            report = affected(connection, user=user)
            examples = _examples(connection, user=user)
            snapshots = [get_snapshot(connection, name) for name in report.tainted_snapshots]
            folders = run_folders(connection, report.tainted_snapshots)
            digests = adapter_digests(connection, report.tainted_adapters)
        if dry_run:
            return report
        # Files first: after a crash the database still says what is to be removed, and the next run does it again.
        gone = [row for one in snapshots for row in load_rows(blobs, one) if row.example_id in examples[one.dataset_id]]
        remove_copies(blobs, folders=folders, digests=digests, rows=gone)
        cleaned = {one.dataset_id: _without(blobs, one.blob, examples[one.dataset_id]) for one in snapshots}
        done = _remove_all(database, user=user, examples=examples, cleaned=cleaned)
        if done is not None:
            sweep_stale_files(database, blobs)
            return done
    raise ConflictError(f"Datasets with rows of `{user}` keep being built.", hint="Run the command again.", retryable=True)


def _remove_all(
    database: Database, *, user: str, examples: Mapping[str, frozenset[str]], cleaned: Mapping[str, str]
) -> ForgetReport | None:
    """Do it in one transaction; None, and nothing done, when a dataset was built since the files were written."""
    with database.write() as connection:
        if _examples(connection, user=user) != examples:
            return None
        report = affected(connection, user=user)
        for name in report.tainted_snapshots:
            _taint_snapshot(connection, name, blob=cleaned[name])
        _taint_adapters(connection, report.tainted_adapters)
        _remove(connection, user=user, example_ids=sorted({i for ids in examples.values() for i in ids}))
    return report


def affected(connection: Connection, *, user: str) -> ForgetReport:
    """What `forget_user` would remove and taint."""
    rows = connection.execute(select(dataset_row.c.dataset_id, dataset_row.c.split).where(dataset_row.c.user_name == user)).all()
    learnt = sorted({row.dataset_id for row in rows if row.split != "test"})
    trained = connection.execute(select(variant.c.adapter).where(variant.c.dataset_id.in_(learnt), variant.c.adapter.is_not(None)))
    return ForgetReport(
        interactions=_count(connection, answer, user),
        feedback=_count(connection, feedback, user),
        dataset_rows=len(rows),
        tainted_snapshots=tuple(sorted({row.dataset_id for row in rows})),
        tainted_adapters=tuple(sorted(set(trained.scalars()))),
    )


def sweep_stale_files(database: Database, blobs: BlobStore) -> int:
    """Delete files of snapshots that were written again; returns how many. Also finishes what a killed run began."""
    with database.read() as connection:
        rows = connection.execute(select(dataset.c.dataset_id, dataset.c.manifest).where(dataset.c.tainted.is_(True))).all()
    swept = 0
    for row in rows:
        for name in row.manifest.get(STALE, ()):
            blobs.delete(name)
            swept += 1
        if STALE in row.manifest:
            left = {key: value for key, value in row.manifest.items() if key != STALE}
            with database.write() as connection:
                connection.execute(update(dataset).where(dataset.c.dataset_id == row.dataset_id).values(manifest=left))
    return swept


def _count(connection: Connection, table: Any, user: str) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(table.c.user_name == user)).scalar_one())


def _examples(connection: Connection, *, user: str) -> dict[str, frozenset[str]]:
    rows = connection.execute(select(dataset_row.c.dataset_id, dataset_row.c.example_id).where(dataset_row.c.user_name == user))
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.dataset_id, set()).add(row.example_id)
    return {name: frozenset(ids) for name, ids in found.items()}


def _without(blobs: BlobStore, file: str, example_ids: frozenset[str]) -> str:
    header, *lines = blobs.get(file).decode().split("\n")[:-1]
    kept = [line for line in lines if json.loads(line)["example_id"] not in example_ids]
    data = "".join(f"{line}\n" for line in [header, *kept]).encode()
    blobs.put(blob_name(data), data)
    return blob_name(data)


def _taint_snapshot(connection: Connection, dataset_id: str, *, blob: str) -> None:
    row = connection.execute(select(dataset.c.blob, dataset.c.manifest).where(dataset.c.dataset_id == dataset_id)).one()
    values: dict[str, Any] = {"tainted": True}
    if blob != row.blob:
        values |= {"blob": blob, "manifest": {**row.manifest, STALE: [*row.manifest.get(STALE, ()), row.blob]}}
    connection.execute(update(dataset).where(dataset.c.dataset_id == dataset_id).values(**values))


def _taint_adapters(connection: Connection, adapters: Sequence[str]) -> None:
    # Every variant with such an adapter, also those that only reuse it.
    connection.execute(update(variant).where(variant.c.adapter.in_(adapters)).values(tainted=True))


def _remove(connection: Connection, *, user: str, example_ids: Sequence[str]) -> None:
    units = select(answer.c.answer_id).where(answer.c.user_name == user)
    connection.execute(delete(exposure).where(exposure.c.answer_id.in_(units)))
    connection.execute(delete(feedback).where(feedback.c.user_name == user))
    connection.execute(delete(dataset_row).where(dataset_row.c.user_name == user))
    groups = [user_group(user), *(row_group(example_id) for example_id in example_ids)]
    connection.execute(delete(split_side).where(split_side.c.group_id.in_(groups)))
    connection.execute(delete(answer).where(answer.c.user_name == user))
