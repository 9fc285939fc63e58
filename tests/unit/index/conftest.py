"""A schema made once and copied for each world."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from affinage.database.engine import Database
from tests.support.indexing import World


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("schema") / "affinage.db"
    database = Database(f"sqlite:///{file}")
    database.migrate()
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return file


@pytest.fixture
def world(tmp_path: Path, template: Path) -> Iterator[World]:
    made = World(tmp_path / "world", template=template)
    yield made
    made.close()
