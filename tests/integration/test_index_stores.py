"""The index on each vector store and the record of truth on disk, with processes that are really killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from affinage.index.verify import verify
from affinage.wiring import random_id, utc_now
from tests.conftest import Counts
from tests.support.index_process import READY, STORE, open_store
from tests.support.indexing import World
from tests.support.observer import Observer

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
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


def rule(n: int, *, version: int) -> str:
    """A document of two chunks, as the observer expects them."""
    return f"# Rule {n}\n\nRule {n} about leave in march, version {version}.\n\n## Pay\n\nPay of rule {n * 7}, version {version}."


def fill(world: World) -> None:
    world.allow(("hr/**", ["group:hr"]), ("**", ["everyone"]))
    for n in range(12):
        world.write(f"{('hr', 'all')[n % 2]}/{n}.md", rule(n, version=0))


def change(world: World, round_: int) -> None:
    world.write("all/1.md", rule(1, version=round_ + 1))
    world.write(f"all/new{round_}.md", rule(100 + round_, version=round_))
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


def test_processes_killed_at_random_times_leave_nothing_wrong_and_readers_never_see_it(world: World, counts: Counts) -> None:
    rng = random.Random(counts.seed)
    fill(world)
    world.sync()
    typical_seconds = unharmed(world)
    reading = World(world.folder, store=open_store(world.folder), declared=True)
    observer = Observer(reading, always=[f"{('hr', 'all')[n % 2]}/{n}.md" for n in range(12) if n not in {1, 3}])
    killed, rounds = 0, counts.of(20)
    coming = run(world, READY)
    try:
        with observer.watching():
            for round_ in range(rounds):
                # Loaded while the round before it runs; it has read nothing of the source yet.
                process, coming = coming, run(world, READY)
                change(world, round_)
                begin(process)
                try:
                    process.wait(timeout=rng.uniform(0, typical_seconds))
                except subprocess.TimeoutExpired:
                    process.kill()
                process.communicate()
                killed += process.returncode == -signal.SIGKILL
                world.check_search()
                if rng.random() < 0.5:  # else the next process finishes it, or is killed as well
                    world.sync(confirm_deletes=True)
    finally:
        coming.kill()
        coming.communicate()
        reading.close()
    assert killed > rounds / 4, f"only {killed} of {rounds} runs were killed before they ended: the proof is empty"
    assert observer.searches > rounds
    assert world.sync(confirm_deletes=True).status == "complete"
    world.check()
    assert verify(world.clients()).found == 0


def unharmed(world: World) -> float:
    """Seconds that a process takes to sync a change when nobody kills it."""
    process = run(world, READY)
    change(world, 0)
    started = begin(process)
    assert process.stdout is not None
    assert process.stdout.readline().endswith(" complete\n")
    seconds = time.monotonic() - started
    process.communicate(timeout=60)
    world.remove("all/new0.md")
    return seconds


def begin(process: subprocess.Popen[str]) -> float:
    """Let a process that waits begin its sync; returns when that was."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == f"{READY}\n", process.stderr and process.stderr.read()
    process.stdin.write("go\n")
    process.stdin.flush()
    return time.monotonic()


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
