"""A document that cannot be read costs one trial now and then, and never the others."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from affinage.database.tables.index import document
from affinage.documents.blocks import ExtractedDocument
from affinage.documents.extraction import extract
from affinage.documents.extraction.pool import ExtractionPool, Limits
from affinage.errors import DocumentError
from affinage.index import survey
from affinage.index.plan import Known
from affinage.index.quarantine import FIRST_RETRY, LONGEST_RETRY, failure_of, is_due, standing
from affinage.index.reports import SyncReport
from affinage.index.sync import sync_source
from tests.support import poison_worker
from tests.support.indexing import World

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def known(attempts: int, *, raw_hash: str = "a", extractor: str = "x", retry_at: datetime | None = NOW) -> Known:
    failure = {"reason": "too_slow", "raw_hash": raw_hash, "extractor": extractor}
    return Known("key", "a.md", None, None, (), True, failure, attempts, retry_at)


def error(*, retryable: bool = True) -> DocumentError:
    return DocumentError("a.md", "too_slow", "Reading a.md was given up.", hint="Split it.", retryable=retryable)


def test_trials_of_the_same_bytes_become_rarer_up_to_a_week() -> None:
    waits, before = [], None
    for _ in range(10):
        failed = failure_of(error(), known=before, raw_hash="a", extractor="x", now=NOW)
        assert failed.retry_at is not None
        waits.append(failed.retry_at - NOW)
        before = known(failed.attempts)
    assert [wait / FIRST_RETRY for wait in waits[:8]] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert waits[8:] == [LONGEST_RETRY] * 2
    many = failure_of(error(), known=known(10_000), raw_hash="a", extractor="x", now=NOW)
    assert many.retry_at == NOW + LONGEST_RETRY


def test_what_lies_in_the_bytes_alone_is_not_tried_again() -> None:
    assert failure_of(error(retryable=False), known=None, raw_hash="a", extractor="x", now=NOW).retry_at is None


@pytest.mark.parametrize("changed", [{"raw_hash": "b"}, {"extractor": "y"}])
def test_other_bytes_or_another_extractor_begin_anew(changed: Mapping[str, str]) -> None:
    given = {"raw_hash": "a", "extractor": "x", **changed}
    assert failure_of(error(), known=known(5), now=NOW, **given).attempts == 1
    assert standing(known(5, retry_at=NOW + FIRST_RETRY), now=NOW, **given) is None


def test_a_failure_stands_until_its_time_has_come() -> None:
    later = known(2, retry_at=NOW + timedelta(seconds=1))
    assert standing(later, raw_hash="a", extractor="x", now=NOW) is not None
    assert not is_due(later, now=NOW)
    assert is_due(known(2), now=NOW)
    assert standing(known(2), raw_hash="a", extractor="x", now=NOW) is None
    assert standing(known(2, retry_at=None), raw_hash="a", extractor="x", now=NOW) is not None


class Reader:
    """Extracts, but fails on text that says `poison`."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    def __call__(self, data: bytes, *, path: str, xml: Mapping[str, str] | None = None) -> ExtractedDocument:
        self.tried.append(path)
        if b"poison" in data:
            raise DocumentError(path, "too_slow", f"Reading {path} was given up.", hint="Split it.", retryable=True)
        return extract(data, path=path)


def sync(world: World, reader: Reader) -> SyncReport:
    return sync_source(world.clients(extract=reader), "handbook")


def stored(world: World, path: str) -> tuple[str, int | None, datetime | None]:
    with world.database.read() as connection:
        row = connection.execute(select(document).where(document.c.path == path)).one()
    return row.state, row.attempts, row.retry_at


def test_a_poison_document_is_quarantined_and_the_others_are_done(world: World) -> None:
    reader = Reader()
    for name in ("a", "b", "c"):
        world.write(f"{name}.md", "poison" if name == "b" else f"Annual leave of {name}.")

    report = sync(world, reader)

    assert (report.status, report.documents.added, report.documents.failed) == ("partial", 2, 1)
    assert stored(world, "b.md") == ("failed", 1, world.clock() + FIRST_RETRY)
    assert {p.document for p in world.search("leave")} == {"handbook/a.md", "handbook/c.md"}


def test_it_is_left_alone_until_its_time_also_when_it_is_touched(world: World) -> None:
    reader = Reader()
    world.write("b.md", "poison")
    sync(world, reader)
    world.clock.advance(minutes=59)
    world.write("b.md", "poison")  # the same bytes, another time of change

    report = sync(world, reader)

    assert reader.tried == ["b.md"]
    assert (report.status, report.documents.failed) == ("partial", 1)
    assert stored(world, "b.md")[1] == 1


def test_it_is_tried_again_when_its_time_has_come_and_then_later(world: World) -> None:
    reader = Reader()
    world.write("b.md", "poison")
    sync(world, reader)
    world.clock.advance(minutes=61)
    assert sync(world, reader).status == "partial"
    assert len(reader.tried) == 2
    assert stored(world, "b.md") == ("failed", 2, world.clock() + 2 * FIRST_RETRY)


def test_a_changed_file_is_tried_at_once_and_leaves_the_quarantine(world: World) -> None:
    reader = Reader()
    world.write("b.md", "poison")
    sync(world, reader)
    world.write("b.md", "Annual leave is 25 days.")
    assert sync(world, reader).status == "complete"
    assert stored(world, "b.md") == ("indexed", None, None)
    world.check()


def test_without_the_back_off_each_run_would_try_again(world: World, monkeypatch) -> None:
    """The control."""
    monkeypatch.setattr(survey.quarantine, "standing", lambda *_, **__: None)
    monkeypatch.setattr(survey.quarantine, "is_due", lambda *_, **__: True)
    reader = Reader()
    world.write("b.md", "poison")
    for _ in range(3):
        sync(world, reader)
    assert len(reader.tried) == 3


def test_documents_that_loop_crash_and_expand_end_one_run_partial(world: World, monkeypatch) -> None:
    monkeypatch.setattr(survey, "format_of", lambda path: path.rpartition(".")[2])
    for name in ("loop", "segfault", "expand"):
        (world.docs / f"{name}.poison").write_text(name)
    world.write("good.md", "Annual leave is 25 days.")
    limits = Limits(memory_bytes=1 << 29, silent_seconds=3)
    with ExtractionPool(limits=limits, program=[poison_worker.__file__]) as pool:
        report = sync_source(world.clients(extract=pool.extract), "handbook")
    assert (report.status, report.documents.added, report.documents.failed) == ("partial", 1, 3)
    with world.database.read() as connection:
        rows = connection.execute(select(document).where(document.c.state == "failed").order_by(document.c.path)).all()
    assert [row.failure["reason"] for row in rows] == ["too_large", "too_slow", "crashed"]
    assert [p.document for p in world.search("annual leave")] == ["handbook/good.md"]
