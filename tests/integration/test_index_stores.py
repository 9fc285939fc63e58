"""The index on each vector store and the record of truth on disk, with processes that are really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from affinage.index.verify import verify
from affinage.wiring import random_id, utc_now
from tests.support.index_process import STORE, open_store
from tests.support.indexing import World

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
# Every boundary at which a killed process leaves something to finish.
STEPS = ("cached", "intended", "written", "switched", "removed", "unpatched", "patched")


@pytest.fixture(params=["lancedb", pytest.param("weaviate", marks=pytest.mark.cluster)])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    folder = tmp_path / "world"
    if request.param == "weaviate":
        url, grpc_port = request.getfixturevalue("weaviate")
        monkeypatch.setenv(STORE, f"{url} {grpc_port}")
    made = World(folder, store=open_store(folder))
    made.new_id = random_id
    made.clock = utc_now  # type: ignore[assignment]
    yield made
    for generation in made.store.generations():
        made.store.drop(generation)
    made.close()


def run(world: World, *at: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "tests.support.index_process", str(world.folder), *at]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def fill(world: World) -> None:
    world.allow(("hr/**", ["group:hr"]), ("**", ["everyone"]))
    for n in range(12):
        world.write(f"{('hr', 'all')[n % 2]}/{n}.md", f"# Rule {n}\n\nRule {n} about leave in march.\n\n## Pay\n\nPay of rule {n * 7}.")


def change(world: World, round_: int) -> None:
    world.write("all/1.md", f"# Rule 1\n\nRule one was edited in round {round_}.")
    world.write(f"all/new{round_}.md", f"# New\n\nA rule about visa number {round_}.")
    if round_:
        world.remove(f"all/new{round_ - 1}.md")
    world.allow(("hr/**", ["group:hr"]), ("all/3.md", ["group:law"] if round_ % 2 else ["everyone"]), ("**", ["everyone"]))


def test_every_change_of_a_folder_ends_as_a_cold_index(world: World) -> None:
    fill(world)
    world.sync()
    world.check()
    change(world, 0)
    world.rename("hr/0.md", "all/zero.md")
    world.sync()
    world.check()


def test_process_killed_at_each_step_is_finished_by_the_next(world: World) -> None:
    fill(world)
    world.sync()
    for round_, step in enumerate(STEPS):
        change(world, round_)
        process = run(world, step)
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, step
        world.check_search()  # readers of another process see whole documents only
        started = time.monotonic()
        embedded = len(world.embedder.embedded)
        report = world.sync()
        assert time.monotonic() - started < 10, "a dead process is taken over at once"
        assert report.status == "complete"
        if step != "cached":
            assert len(world.embedder.embedded) - embedded == 0, f"{step}: its vectors were in the cache"
    world.check()
    assert verify(world.clients()).found == 0


def test_process_killed_at_any_moment_is_finished_by_the_next(world: World) -> None:
    fill(world)
    world.sync()
    for round_, delay in enumerate((0.9, 1.3, 1.6)):
        change(world, round_)
        process = run(world)
        try:
            process.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        world.check_search()
        world.sync()
    world.check()
    assert verify(world.clients()).found == 0


@pytest.mark.parametrize("step", ["intended", "written"])
def test_process_stopped_past_its_lease_and_resumed_shows_nothing_of_what_it_held(world: World, step: str) -> None:
    fill(world)
    world.sync()
    world.write("all/1.md", "# Rule 1\n\nAn outdated draft about leave.")
    process = run(world, step, "SIGSTOP")
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        world.write("all/1.md", "# Rule 1\n\nThe rule about leave for few.")
        world.allow(("hr/**", ["group:hr"]), ("all/1.md", ["group:law"]), ("**", ["everyone"]))

        assert world.sync().status == "complete", "it waits for the end of the lease, and takes over"
        os.kill(process.pid, signal.SIGCONT)
        process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode == 1, "what it held is refused"
    assert "outdated" not in " ".join(p.text for p in world.search("outdated draft leave", k=100))
    assert "for few" not in " ".join(p.text for p in world.search("leave for few", k=100))
    world.check_search()
    # A row that it wrote after it was replaced is invisible, and scrubbed.
    verify(world.clients(), repair=True)
    world.check()


def test_two_processes_at_once_do_the_work_once(world: World) -> None:
    fill(world)
    outputs = [process.communicate(timeout=120)[0].split() for process in [run(world), run(world)]]
    assert sorted(int(count) for count, _ in outputs) == [0, 24]
    assert {status for _, status in outputs} == {"complete"}
    world.check()
    assert verify(world.clients()).found == 0


def test_wiped_vectors_come_back_from_the_cache(world: World) -> None:
    fill(world)
    world.sync()
    name = world.generation()
    world.store.delete(name, [row.row_id for row in world.rows()][:5])
    report = verify(world.clients(), repair=True)
    assert (report.missing, report.repaired, report.embedded) == (5, 5, 0)
    world.store.drop(name)
    report = verify(world.clients(), repair=True)
    assert (report.missing, report.repaired, report.embedded) == (24, 24, 0)
    world.check()
