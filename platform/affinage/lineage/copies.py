"""Copies of training rows outside the database and the snapshots: folders of training runs, golden rows of adapters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from sqlalchemy import Connection, select

from affinage.blobs import BlobStore
from affinage.database.tables.registry import training_run, variant
from affinage.datasets.rows import Row, SftRow
from affinage.tuning import golden

WORKING_COPY = "rows.jsonl"
# What a training process reads; a resumed run writes it again from the snapshot.


def run_folders(connection: Connection, dataset_ids: Sequence[str]) -> list[Path]:
    """Folders of the training runs on these snapshots."""
    found = connection.execute(select(training_run.c.folder).where(training_run.c.dataset_id.in_(dataset_ids)))
    return [Path(folder) for folder in found.scalars()]


def adapter_digests(connection: Connection, adapters: Sequence[str]) -> list[str]:
    """Digests of the adapters with these names."""
    query = select(variant.c.adapter_digest).where(variant.c.adapter.in_(adapters), variant.c.adapter_digest.is_not(None))
    return sorted(set(connection.execute(query).scalars()))


def remove_copies(blobs: BlobStore, *, folders: Collection[Path], digests: Collection[str], rows: Collection[Row]) -> None:
    """Delete the working copies in `folders`, and take `rows` out of the golden rows of the adapters in `digests`.

    An adapter is proved with fewer golden rows then; one that has none left is loaded without that proof.
    """
    for folder in folders:
        (folder / WORKING_COPY).unlink(missing_ok=True)
    gone = {(row.messages, row.target) for row in rows if isinstance(row, SftRow)}
    for digest in digests:
        before = golden.load(blobs, digest)
        left = [row for row in before if (row.messages, row.target) not in gone]
        if len(left) < len(before):
            blobs.delete(golden.blob_name(digest))
            golden.save(blobs, digest, left)
