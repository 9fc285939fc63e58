"""How far a sync is, at what rate, and how long it will take."""

from __future__ import annotations

import pytest

from affinage.index.progress import Pace, Progress, duration
from tests.support.indexing import World


class Timer:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_rates_and_time_left_follow_from_what_was_read_and_written() -> None:
    timer, shown = Timer(), list[Progress]()
    pace = Pace(shown.append, timer=timer)
    pace.began("handbook", documents=4)
    for _ in range(3):
        pace.inspected(settled=False)
    pace.inspected(settled=True)
    pace.writing(documents=2, chunks=20)
    timer.at = 10.0
    pace.embedding(5, 10)
    # 4 of 4 read; 1 settled and half of a batch of 2 written: 6 of 8 parts in 10 s, so a third of 10 s is left.
    half = shown[-1]
    assert (half.documents, half.chunks, half.ratio) == (2, 10, 0.75)
    assert half.seconds_left == pytest.approx(10 / 3)
    assert (half.documents_per_second, half.chunks_per_second) == pytest.approx((0.2, 1.0))
    assert half.text() == "handbook: 2 of 4 documents (0.2/s), 10 chunks (1.0/s), 3 s left"
    pace.embedding(10, 10)
    timer.at = 20.0
    pace.written()
    assert (shown[-1].documents, shown[-1].chunks) == (3, 20)
    pace.writing(documents=1, chunks=1)
    pace.written()
    assert (shown[-1].ratio, shown[-1].seconds_left) == (1.0, 0.0)


def test_the_next_source_begins_at_nothing() -> None:
    timer, shown = Timer(), list[Progress]()
    pace = Pace(shown.append, timer=timer)
    pace.began("handbook", documents=1)
    pace.inspected(settled=True)
    timer.at = 100.0
    pace.began("wiki", documents=2)
    timer.at = 101.0
    pace.inspected(settled=True)
    last = shown[-1]
    assert (last.source, last.documents, last.ratio, last.documents_per_second) == ("wiki", 1, 0.5, 1.0)


def test_a_sync_tells_of_every_document_and_chunk(world: World) -> None:
    for n in range(3):
        world.write(f"{n}.md", f"Rule {n} about leave.")
    world.write("broken.docx", "no zip")
    shown = list[Progress]()
    clients = world.clients(watch=Pace(shown.append, timer=Timer()))
    from affinage.index.sync import sync_source

    report = sync_source(clients, "handbook")
    assert (report.documents.added, report.documents.failed) == (3, 1)
    last = shown[-1]
    assert (last.documents, last.of, last.chunks, last.ratio) == (4, 4, report.chunks.written, 1.0)
    ratios = [one.ratio for one in shown]
    assert ratios == sorted(ratios), "it never goes back"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (185, "3 min 5 s"), (3_600, "1 h"), (7_830, "2 h 10 min"), (273_600, "3 d 4 h")],
)
def test_durations_are_said_in_their_two_largest_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said
