"""Read the rows of a snapshot back, checked against its digest."""

from __future__ import annotations

import json

from affinage.blobs import BlobStore
from affinage.datasets.rows import Row, Split, row_from_json
from affinage.datasets.snapshots import Snapshot, blob_name
from affinage.errors import DependencyError


def load_rows(blobs: BlobStore, snapshot: Snapshot, split: Split | None = None) -> list[Row]:
    """Rows by example id; of one split, or all.

    Raises
    ------
    DependencyError
        If the file is not the one that was written.
    """
    data = blobs.get(snapshot.blob)
    if blob_name(data) != snapshot.blob:
        raise DependencyError(
            "blobs", f"The file of dataset `{snapshot.dataset_id}` was altered.", hint="Build the dataset again.", retryable=False
        )
    # Not splitlines: it also cuts at characters that stand unescaped inside JSON strings.
    _, *lines = data.decode().split("\n")[:-1]
    values = (json.loads(line) for line in lines)
    return [row_from_json(snapshot.kind, value) for value in values if split is None or value["split"] == split]
