import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from affinage.documents.extraction import dispatch, extract, pool
from affinage.documents.extraction.pool import ExtractionPool, Limits
from affinage.errors import DependencyError, DocumentError
from tests.support import poison_worker
from tests.support.programs import wait_for

PROGRAM = [poison_worker.__file__]
QUICK = Limits(memory_bytes=1 << 29, silent_seconds=2, seconds=30)


@pytest.fixture(scope="module")
def quick() -> Iterator[ExtractionPool]:
    with ExtractionPool(limits=QUICK, program=PROGRAM) as made:
        yield made


def read(made: ExtractionPool, harm: str) -> str:
    return made.extract(harm.encode(), path="a.poison").text


def failure(made: ExtractionPool, harm: str) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        read(made, harm)
    assert caught.value.hint
    assert "a.poison" in caught.value.message
    return caught.value


@pytest.fixture(scope="module")
def slow() -> Iterator[ExtractionPool]:
    """With time for what is not about time."""
    with ExtractionPool(limits=Limits(memory_bytes=1 << 29, silent_seconds=20), program=PROGRAM) as made:
        yield made


def test_a_document_comes_out_of_the_process_as_it_would_in_this_one() -> None:
    data = "# Congés\n\n- un\n- deux\n\n| A | B |\n|---|---|\n| 1 | 2 |\n\n```\ncode\n```\n".encode()
    with ExtractionPool() as made:
        assert made.extract(data, path="a.md") == extract(data, path="a.md")
        with pytest.raises(DocumentError) as caught:
            made.extract(b"not a pdf", path="b.pdf")
    with pytest.raises(DocumentError) as expected:
        extract(b"not a pdf", path="b.pdf")
    assert (str(caught.value), caught.value.reason, caught.value.retryable) == (str(expected.value), "damaged", False)


def test_the_process_is_kept_for_the_next_document(slow: ExtractionPool) -> None:
    assert read(slow, "pid") == read(slow, "pid") != str(os.getpid())


@pytest.mark.parametrize("harm", ["loop", "native", "stubborn"])
def test_a_document_that_never_ends_is_given_up_as_too_slow(quick: ExtractionPool, harm: str) -> None:
    error = failure(quick, harm)
    assert (error.reason, error.retryable) == ("too_slow", True)
    assert read(quick, "pid")


def test_a_long_document_that_goes_on_is_not_given_up(quick: ExtractionPool) -> None:
    assert read(quick, "work 15") == "15"  # three seconds, and none of them silent


def test_a_document_that_goes_on_for_ever_is_given_up_all_the_same() -> None:
    with ExtractionPool(limits=Limits(memory_bytes=1 << 29, silent_seconds=20, seconds=2), program=PROGRAM) as made:
        assert failure(made, "ever").reason == "too_slow"


def test_a_document_that_expands_without_end_is_too_large(slow: ExtractionPool) -> None:
    error = failure(slow, "expand")
    assert (error.reason, error.retryable) == ("too_large", True)
    assert "512 MiB" in error.message
    assert read(slow, "nothing here") == "here"


@pytest.mark.parametrize("harm", ["segfault", "exit", "abort", "lie", "flood"])
def test_a_document_that_takes_its_process_along_has_crashed_it(slow: ExtractionPool, harm: str) -> None:
    error = failure(slow, harm)
    assert (error.reason, error.retryable) == ("crashed", True)
    assert read(slow, "nothing here") == "here"


def test_recursion_without_end_is_reported_and_the_process_goes_on(slow: ExtractionPool) -> None:
    before = read(slow, "pid")
    assert failure(slow, "recurse").reason == "crashed"
    assert read(slow, "pid") == before


def test_nothing_can_be_written_to_a_disk(slow: ExtractionPool, tmp_path: Path) -> None:
    assert failure(slow, "write").reason == "crashed"


def test_secrets_of_this_process_are_not_those_of_the_reader(slow: ExtractionPool, monkeypatch) -> None:
    monkeypatch.setenv("AFFINAGE_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert read(slow, "secrets") == "none"


def test_a_process_that_somebody_ends_between_two_documents_is_replaced(slow: ExtractionPool) -> None:
    before = int(read(slow, "pid"))
    os.kill(before, signal.SIGKILL)
    assert read(slow, "pid") != str(before)


def test_what_earlier_documents_left_behind_is_not_blamed_on_a_document(slow: ExtractionPool) -> None:
    before = read(slow, "pid")
    assert read(slow, "only-when-fresh read") == "read"
    assert read(slow, "pid") != before


def test_as_many_documents_are_read_at_once_as_there_are_processes() -> None:
    pids: list[str] = []
    with ExtractionPool(size=2, limits=Limits(silent_seconds=20), program=PROGRAM) as made:
        threads = [threading.Thread(target=lambda: (read(made, "work 5"), pids.append(read(made, "pid")))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(pids) == 4
    assert len(set(pids)) == 2


def test_a_process_is_replaced_after_many_documents(monkeypatch) -> None:
    monkeypatch.setattr(pool, "RECYCLED_AFTER", 2)
    with ExtractionPool(limits=Limits(silent_seconds=20), program=PROGRAM) as made:
        pids = [read(made, "pid") for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_processes_end_when_the_pool_is_closed() -> None:
    made = ExtractionPool(limits=Limits(silent_seconds=20), program=PROGRAM)
    pid = int(read(made, "pid"))
    made.close()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a process that was killed")
def test_processes_end_with_their_parent_even_in_the_middle_of_a_document() -> None:
    code = (
        "import sys, threading; from affinage.documents.extraction.pool import ExtractionPool, Limits;"
        f"p = ExtractionPool(limits=Limits(), program={PROGRAM!r});"
        "print(p.extract(b'pid', path='a.poison').text, flush=True); p.extract(b'loop', path='a.poison')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = Path("/proc", parent.stdout.readline().strip())
    assert child.exists()
    parent.kill()
    parent.wait()
    wait_for(lambda: not child.exists(), what="the child ends with its parent", seconds=20)


def test_without_the_process_a_poison_document_ends_the_run(monkeypatch) -> None:
    """The control: what the processes protect from."""
    code = (
        "import ctypes; from affinage.documents.extraction import dispatch; from tests.support import poison_worker;"
        "poison_worker.read(b'segfault', path='a.poison'); print('alive')"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(["platform", "."])}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environ)
    assert ended.returncode == -signal.SIGSEGV
    assert "alive" not in ended.stdout


def test_a_process_that_does_not_start_is_blamed_on_no_document() -> None:
    with ExtractionPool(program=["-c", "raise SystemExit(3)"]) as made, pytest.raises(DependencyError, match="does not start"):
        made.extract(b"text", path="a.txt")


def test_the_formats_of_the_pool_are_those_of_this_process() -> None:
    assert ".poison" not in dispatch.FORMATS
    with ExtractionPool() as made, pytest.raises(DocumentError) as caught:
        made.extract(b"loop", path="a.poison")
    assert caught.value.reason == "unsupported"
