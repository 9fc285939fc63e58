from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import PERMIT, Gateway
from tests.support.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def gateway(world: World) -> Iterator[Gateway]:
    world.add("permits.md", PERMIT, title="Permits", page=3)
    made = Gateway(world)
    with made.client:
        yield made
