"""Fixtures that every level shares: a database, a clock and ids under the test's control."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from affinage.blobs.folder import FolderBlobs
from affinage.database.engine import Database
from tests.support.programs import required
from tests.support.services import Service
from tests.support.vllm import serve_vllm
from tests.support.weaviate import SERVER, running


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="Proofs that repeat something random do it ten times as often.")
    parser.addoption("--seed", type=int, default=7, help="Of what is random in them; lives of hypothesis take --hypothesis-seed.")


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.getoption('--seed')}{', full counts' if config.getoption('--soak') else ''}"


@dataclass(frozen=True)
class Counts:
    """How often a proof repeats something random, and from which seed."""

    soak: bool
    seed: int

    def of(self, quick: int) -> int:
        """`quick` times, ten times as often in a soak."""
        return 10 * quick if self.soak else quick


@pytest.fixture(scope="session")
def counts(pytestconfig: pytest.Config) -> Counts:
    return Counts(soak=pytestconfig.getoption("--soak"), seed=pytestconfig.getoption("--seed"))


class Clock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def advance(self, **duration: float) -> None:
        self.at += timedelta(**duration)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def new_id() -> Callable[[], str]:
    counter = itertools.count(1)
    return lambda: f"id-{next(counter):06d}"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty SQLite database at the newest schema."""
    opened = Database(f"sqlite:///{tmp_path / 'affinage.db'}")
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


@pytest.fixture(scope="session")
def weaviate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A real Weaviate server: its address and its gRPC port."""
    with running(required(SERVER), tmp_path_factory.mktemp("weaviate")) as found:
        yield found


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A generator's service over a real vLLM with a tiny Llama."""
    with serve_vllm(tmp_path_factory.mktemp("vllm")) as found:
        yield found
