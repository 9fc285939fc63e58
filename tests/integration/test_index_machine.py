"""The lives of `tests/unit/index/test_index_machine.py` on the real stores: 300 steps on each."""

from __future__ import annotations

from pathlib import Path

import pytest

from affinage.database.engine import Database
from affinage.index.stores.lancedb import LanceStore
from affinage.index.stores.weaviate import WeaviateStore
from tests.conftest import Counts
from tests.unit.index.test_index_machine import STORE, TEMPLATE, live

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("kind", ["lancedb", pytest.param("weaviate", marks=pytest.mark.cluster)])
def test_index_ends_as_a_cold_one_whatever_happens(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, counts: Counts
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'template.db'}")
    database.migrate()
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    monkeypatch.setitem(TEMPLATE, "file", tmp_path / "template.db")
    if kind == "weaviate":
        url, grpc_port = request.getfixturevalue("weaviate")
        monkeypatch.setitem(STORE, "of", lambda _: WeaviateStore(url, grpc_port=grpc_port))
    else:
        monkeypatch.setitem(STORE, "of", lambda folder: LanceStore(folder / "vectors"))
    live(examples=counts.of(15), steps=20)
